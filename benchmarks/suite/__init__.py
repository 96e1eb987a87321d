"""What `benchmarks/run.py` measures.

    timing      entrants of one case, checked against each other and timed in alternating blocks
    machine     peak of multiply-adds, bandwidth, noise          libraries    PyTorch, torch.compile, JAX, tinygrad_cv.compile
    products, convolutions, operators, training, scaling, memory, starting: the groups of the table
    networks    the networks of the training steps, one text for both libraries        report    tables, README and JSON

A group is a function of a `Context` that yields rows: dictionaries of plain numbers and texts, as they stand in the JSON file.
"""
