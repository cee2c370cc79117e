# Tables → figures, notebooks, report. A figure reads tables alone.


rule figures:
    input:
        TABLES,
    output:
        f"{R}/figures/captions.json",
        [
            shown(f"{R}/figures/{name}.png", name, "Figures", captions.TITLES[name])
            for name in captions.FIGURES
        ],
        [f"{R}/figures/{name}.svg" for name in captions.FIGURES],
        texts=[f"{CAPTIONS}/{name}.rst" for name in captions.FIGURES],
    log:
        f"{LOGS}/figures.log",
    benchmark:
        f"{TIMES}/figures.tsv"
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        tables=folder_of_input,
        folder=folder_of_output,
        captions=folder_of_texts,
    shell:
        "python -m analysis figures --tables {params.tables:q} --out {params.folder:q}"
        " --captions {params.captions:q} 2> {log:q}"


rule notebook:
    input:
        TABLES,
        f"{R}/tables/comparison.md",
        f"{R}/tables/claims.csv",
        notebook="notebooks/{notebook}.ipynb",
    output:
        notebook=f"{R}/notebooks/{{notebook}}.ipynb",
        page=f"{R}/notebooks/{{notebook}}.html",
    log:
        f"{LOGS}/notebook/{{notebook}}.log",
    benchmark:
        f"{TIMES}/notebook/{{notebook}}.tsv"
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        tables=folder_of_input,
    shell:
        "python -m analysis notebook --source {input.notebook:q} --tables {params.tables:q}"
        " --out {output.notebook:q} --page {output.page:q} 2> {log:q}"


rule report:
    input:
        TABLES,
        f"{R}/tables/comparison.md",
        f"{R}/tables/claims.md",
        f"{R}/figures/captions.json",
    output:
        f"{R}/report.html",
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{TIMES}/report.tsv"
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        tables=folder_of_input,
        figures=lambda w, input: Path(input[-1]).parent,
    shell:
        "python -m analysis report --tables {params.tables:q} --figures {params.figures:q}"
        " --out {output:q} 2> {log:q}"


# `snakemake crate`: the finished study as an RO-Crate.
rule crate:
    input:
        everything(),
    output:
        f"{R}/ro-crate-metadata.json",
    log:
        f"{LOGS}/crate.log",
    benchmark:
        f"{TIMES}/crate.tsv"
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        folder=folder_of_output,
    shell:
        "python -m analysis crate --results {params.folder:q} 2> {log:q}"
