"""Serves a GGUF file with llama.cpp's own HTTP server, until its standard input ends.

    python llama_server.py FILE PORT NAME

Made and tried with xllamacpp 2026.10.11549."""

import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(sys.argv[2])
parameters.model_alias = {sys.argv[3]}
parameters.n_gpu_layers = 0
parameters.n_parallel = 4
parameters.n_ctx = 4 * 256
parameters.cpuparams.n_threads = 1
parameters.cpuparams_batch.n_threads = 1
parameters.warmup = False
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
