"""A run as one page of HTML: everything inside it, nothing fetched, no script.

    html.py       elements; whatever is not an element is escaped
    style.css     light and dark
    pictures.py   images as small JPEGs inside the page
    tables.py     tables and lists of facts
    training.py evaluation.py provenance.py   the sections
    page.py       the page

It is given plain data (a run's record, an evaluation's numbers) and knows no run.
"""
