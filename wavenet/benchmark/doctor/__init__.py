"""``wavenet doctor``: checks and measures a device, part by part, and leaves one report.

- ``device``, ``checks``, ``engine_checks``, ``measures``, ``training``: the parts, each a function
  of the device;
- ``part``: what parts share;
- ``parts``: their titles and order, and the command that runs one;
- ``runner``: runs every part in a process of its own, under a time limit;
- ``report``: the report as JSON and as Markdown tables, and what its figures decide;
- ``targets``: figures that an H100 or H200 should reach.
"""
