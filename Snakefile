# Every interface × upstream × task of a study, from recordings to figures.
#
#   snakemake --cores 8 --resources gpu=2                       the default study, config/mini.yaml
#   snakemake --cores 8 --configfile config/reference.yaml      another one
#
# The rules are in workflow/rules, one stage a file; every rule calls `python -m ssl_bench STAGE`
# or `python -m analysis STAGE`, which a person can call as well.

from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/study.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/upstreams.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/pretrain.smk"


rule all:
    default_target: True
    input:
        everything(),
