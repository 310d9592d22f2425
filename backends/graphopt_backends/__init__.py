"""graphopt_backends"""
