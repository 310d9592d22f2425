"""The built-in backends. This manifest names them; nothing is imported until one is used."""

from graphopt.plugins import Plugin

PLUGIN = Plugin(
    api=1,
    backends={
        "cpu": "graphopt_backends.cpu.backend:CpuBackend",
        "cuda": "graphopt_backends.cuda.backend:CudaBackend",
    },
    passes={
        "choose-libraries": "graphopt_backends.cuda.vendor.choose_libraries:ChooseLibraries",
    },
)
