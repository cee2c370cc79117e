# Cells → the study's tables. From here on nothing opens a cell.


rule collect:
    input:
        train=packs("train.csv"),
        sweep=packs("sweep.csv") if study.sweep is not None else [],
        similarity=[
            f"{W}/similarity/{upstream}.{corpus}.csv"
            for upstream, corpus in study.similarity.items()
        ],
    output:
        TABLES,
    log:
        f"{LOGS}/collect.log",
    benchmark:
        f"{TIMES}/collect.tsv"
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(30),
    params:
        study=str(study.resolved),
        cells=study.cells(),
    shell:
        "python -m analysis collect --study {params.study:q} 2> {log:q}"


rule tables:
    input:
        TABLES,
    output:
        multiext(f"{R}/tables/comparison", ".csv", ".md", ".tex"),
        multiext(f"{R}/tables/claims", ".csv", ".md"),
        multiext(f"{R}/tables/paper_claims", ".csv", ".md"),
        PAPER,
    log:
        f"{LOGS}/tables.log",
    benchmark:
        f"{TIMES}/tables.tsv"
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        folder=folder_of_input,
    shell:
        "python -m analysis tables --tables {params.folder:q} --out {params.folder:q} 2> {log:q}"
