"""The harness: data, noise, certificates, runs, timing, reports. It knows no method.

types          records, protocols and errors that every layer shares; standard library only
certification  votes to certificates: bounds, sequential designs, stopping rules; no torch
smoothing      the only place that makes smoothing noise and counts votes
data           datasets, subsets, fingerprints, preprocessings; pixels are float32 in [0, 1]
weights        catalogues, checkpoints, the cache, which file fills which role
published      the papers' tables, and published certification logs
runs           from a request to stored rows: registry, batcher, schedule, store, seals; execution/ the executors,
               representation/ linear probes and distances of features
timing         seconds a certificate (latency), the engine against its machine (throughput), large tables (forecast)
testing        the conformance kit for methods, and classifiers of known radius
report         tables, figures and claims from rows, and the formats they are written in
cli            one module a command; study*: training, runs and report of one file
api            the Python interface of `rrcm_bench`: certify any callable, runs and reports as frames

docs/architecture.md says what may import what, and where to add things.
"""
