"""The fused CPU engine's inner parts: network and draw of one sample, compiled by numba.

    packing     weights and biases as the loop reads them (torch and numpy alone)
    products    matrix times vectors, accumulators held in registers
    draws       one value from the parameters of a distribution
    loop        the sampling loop itself

They are written in the language of ``compiled``. All but ``packing`` import numba; nothing imports
them before an engine is built.
"""
