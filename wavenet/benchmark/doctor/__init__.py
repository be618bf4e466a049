"""``wavenet doctor``: checks and measures a device, part by part, and leaves one report.

- ``parts``: what is checked and measured; each part a function of the device;
- ``runner``: runs every part in a process of its own, under a time limit;
- ``report``: the report as JSON and as Markdown tables, and what its figures decide.
"""
