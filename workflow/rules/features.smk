# Waveforms → hidden states, computed once; and how alike the layers are.


rule features:
    input:
        table=f"{W}/corpora/{{corpus}}/table.parquet",
        upstream=f"{W}/upstreams/{{upstream}}.json",
    output:
        f"{W}/features/{{upstream}}/{{corpus}}/features.json",
    log:
        f"{LOGS}/features/{{upstream}}.{{corpus}}.log",
    benchmark:
        f"{TIMES}/features/{{upstream}}.{{corpus}}.tsv"
    priority: FIRST
    threads: max(1, min(8, workflow.cores // len(study.corpora)))
    resources:
        mem_mb=grows(6000),
        runtime=grows(240),
        gpu=GPU,
    params:
        study=str(study.resolved),
        gpu=given_gpu,
        config=lambda w: study.stream_slice(w.upstream),
    shell:
        "SSL_BENCH_GPU={params.gpu:q} OMP_NUM_THREADS={threads}"
        " python -m ssl_bench features --study {params.study:q}"
        " --upstream {wildcards.upstream} --corpus {wildcards.corpus} 2> {log:q}"


rule similarity:
    input:
        f"{W}/features/{{upstream}}/{{corpus}}/features.json",
    output:
        f"{W}/similarity/{{upstream}}.{{corpus}}.csv",
    log:
        f"{LOGS}/similarity/{{upstream}}.{{corpus}}.log",
    benchmark:
        f"{TIMES}/similarity/{{upstream}}.{{corpus}}.tsv"
    threads: 1
    resources:
        mem_mb=grows(6000),
        runtime=grows(60),
        gpu=GPU,
    params:
        study=str(study.resolved),
        gpu=given_gpu,
    shell:
        "SSL_BENCH_GPU={params.gpu:q} OMP_NUM_THREADS={threads}"
        " python -m ssl_bench similarity --study {params.study:q}"
        " --upstream {wildcards.upstream} --corpus {wildcards.corpus} --out {output:q} 2> {log:q}"
