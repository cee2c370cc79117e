# An encoder → its number of states, width, stride, parameters and the hash of its weights.


rule upstream:
    input:
        lambda w: study.upstream_inputs(w.upstream),
    output:
        f"{W}/upstreams/{{upstream}}.json",
    log:
        f"{LOGS}/upstream/{{upstream}}.log",
    benchmark:
        f"{TIMES}/upstream/{{upstream}}.tsv"
    priority: FIRST
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(30),
    params:
        study=str(study.resolved),
        config=lambda w: study.upstream_slice(w.upstream),
        sha256=lambda w: study.upstream_config(w.upstream).sha256,
    shell:
        "python -m ssl_bench upstream"
        " --study {params.study:q} --name {wildcards.upstream} 2> {log:q}"
