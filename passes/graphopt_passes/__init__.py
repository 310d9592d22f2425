"""graphopt_passes"""
