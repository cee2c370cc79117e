"""What a study will take, said before any of it runs: ``python -m ssl_bench plan``.

Nothing here touches a GPU, loads an encoder or opens a recording. Three small tables hold what is
known beforehand: ``upstreams.csv`` (sizes by name), ``hours.csv`` (published durations) and
``throughput.csv`` (measured speed, each line with its hardware and source). What none of them has
is said to be unknown, or not measured.
"""
