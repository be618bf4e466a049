"""The fused CPU engine's inner parts: network and draw of one sample, compiled by numba.

    packing     weights and biases as the loop reads them (torch and numpy alone)
    compiling   how kernels are compiled, and kept between runs
    registers   16 floats as one value of the compiled language
    products    matrix times vectors, accumulators held in registers
    functions   exp, and the gate tanh . sigmoid
    draws       one value from the parameters of a distribution
    loop        the sampling loop itself

All but ``packing`` import numba; nothing imports them before an engine is built.
"""
