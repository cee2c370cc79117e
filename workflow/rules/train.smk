# States → trained cells. A job is one interface (`job: interface`) or all of them (`job: stream`).


rule sweep:
    input:
        table=corpus_table,
        features=task_features,
    output:
        f"{R}/cells/{{task}}/{{upstream}}/{{pack}}/sweep.csv",
    log:
        f"{LOGS}/sweep/{{task}}.{{upstream}}.{{pack}}.log",
    benchmark:
        f"{TIMES}/sweep/{{task}}.{{upstream}}.{{pack}}.tsv"
    priority: longest_first
    threads: 1
    resources:
        mem_mb=grows(training_memory),
        runtime=grows(720),
        gpu=GPU,
    params:
        study=str(study.resolved),
        gpu=given_gpu,
        config=lambda w: study.slice(w.task, w.upstream, w.pack),
    shell:
        "SSL_BENCH_GPU={params.gpu:q} OMP_NUM_THREADS={threads}"
        " exec python -m ssl_bench sweep --study {params.study:q}"
        " --task {wildcards.task} --upstream {wildcards.upstream} --pack {wildcards.pack} 2> {log:q}"


rule train:
    input:
        table=corpus_table,
        features=task_features,
        rates=(
            rules.sweep.output
            if study.sweep is not None
            else study.learning_rates.table
        ),
    output:
        f"{R}/cells/{{task}}/{{upstream}}/{{pack}}/train.csv",
    log:
        f"{LOGS}/train/{{task}}.{{upstream}}.{{pack}}.log",
    benchmark:
        f"{TIMES}/train/{{task}}.{{upstream}}.{{pack}}.tsv"
    priority: longest_first
    threads: 1
    resources:
        mem_mb=grows(training_memory),
        runtime=grows(1440),
        gpu=GPU,
    params:
        study=str(study.resolved),
        gpu=given_gpu,
        config=lambda w: study.slice(w.task, w.upstream, w.pack),
    shell:
        "SSL_BENCH_GPU={params.gpu:q} OMP_NUM_THREADS={threads}"
        " exec python -m ssl_bench train --study {params.study:q}"
        " --task {wildcards.task} --upstream {wildcards.upstream} --pack {wildcards.pack} 2> {log:q}"
