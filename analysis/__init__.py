"""From the tables of a study to statistics, comparison tables, figures and a report.

Reads nothing but ``results/<study>/tables/``; needs no torch.
"""
