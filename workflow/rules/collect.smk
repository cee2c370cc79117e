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
        [
            (
                shown(path, Path(path).stem, "Data", Path(path).stem)
                if path.endswith(".csv")
                else path
            )
            for path in TABLES
        ],
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
        [
            shown(f"{R}/tables/{name}.csv", name, "Tables", captions.TITLES[name])
            for name in captions.TABLES
        ],
        [
            shown(f"{R}/tables/{name}.csv", name, "Tables", f"The paper's {name}")
            for name in PAPER
        ],
        [f"{R}/tables/{name}.md" for name in (*captions.TABLES, *PAPER)],
        [f"{R}/tables/{name}.tex" for name in ("comparison", *PAPER)],
        texts=[f"{CAPTIONS}/{name}.rst" for name in (*captions.TABLES, *PAPER)],
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
        captions=folder_of_texts,
    shell:
        "python -m analysis tables --tables {params.folder:q} --out {params.folder:q}"
        " --captions {params.captions:q} 2> {log:q}"
