# Recordings and labels → CutSets, a table of utterances, packed waveforms.


rule corpus:
    input:
        lambda w: study.corpus_inputs(w.corpus),
    output:
        table=f"{W}/corpora/{{corpus}}/table.parquet",
        summary=f"{W}/corpora/{{corpus}}/summary.json",
        waveforms=f"{W}/corpora/{{corpus}}/waveforms.bin",
    log:
        f"{LOGS}/corpus/{{corpus}}.log",
    benchmark:
        f"{TIMES}/corpus/{{corpus}}.tsv"
    priority: FIRST
    threads: max(1, workflow.cores // len(study.corpora))
    resources:
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        study=str(study.resolved),
        config=lambda w: study.corpora[w.corpus],
    shell:
        "SSL_BENCH_WORKERS={threads} python -m ssl_bench corpus"
        " --study {params.study:q} --name {wildcards.corpus} 2> {log:q}"
