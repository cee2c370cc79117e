# `snakemake pretrain` makes the embedded encoders anew; they are shipped in models/.


rule pretrain:
    log:
        f"{LOGS}/pretrain.log",
    benchmark:
        f"{TIMES}/pretrain.tsv"
    threads: 16
    resources:
        mem_mb=grows(64000),
        runtime=grows(60),
        gpu=1,
    params:
        config="config/pretrain.yaml",
    shell:
        "python -m ssl_bench.pretrain run --config {params.config:q}"
        " --work work/pretrain --out models 2> {log:q}"
