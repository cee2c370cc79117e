# `snakemake pretrain` makes the embedded encoders anew; they are shipped in models/.
#
# By the times in docs/performance.md all planned steps of both sizes, one after the other, are a
# quarter of an hour on one H200. The time that is asked for leaves room for a GPU of a third of the
# speed, and grows with every attempt; an attempt goes on where the one before was stopped.


rule pretrain:
    input:
        "config/pretrain.yaml",
    log:
        f"{LOGS}/pretrain.log",
    benchmark:
        f"{TIMES}/pretrain.tsv"
    threads: 16
    resources:
        mem_mb=grows(64000),
        runtime=grows(60),
        gpu=1,
    shell:
        "OMP_NUM_THREADS={threads} python -m ssl_bench.pretrain run --config {input:q}"
        " --work work/pretrain --out models --devices cuda --workers {threads} 2> {log:q}"
