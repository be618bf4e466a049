"""Facts about the output distributions; the references are mpmath (50 digits) and scipy."""

import copy
import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from wavenet.distributions import (
    MIN_LOG_SCALE,
    STEP,
    Distribution,
    Gaussian,
    GaussianMixture,
    LogisticMixture,
    MuLaw,
    bits_per_sample,
    make_distribution,
    mu_law_compress,
    mu_law_decode,
    mu_law_encode,
    mu_law_expand,
)

ALL = (MuLaw(256), MuLaw(1024), LogisticMixture(10), Gaussian(), GaussianMixture(10))
CONTINUOUS = ALL[2:]
GRID = torch.arange(-32768, 32768, dtype=torch.float64)[None] * STEP  # [1, 65536]

each = pytest.mark.parametrize("distribution", ALL, ids=str)
each_continuous = pytest.mark.parametrize("distribution", CONTINUOUS, ids=str)


def some_params(distribution: Distribution, log_scale: float = -4.0, seed: int = 0) -> Tensor:
    """[1, P, 1] in float64: means within the grid, scales around exp(log_scale)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, distribution.n_params, 1, generator=generator, dtype=torch.float64)
    if isinstance(distribution, MuLaw):
        return 2 * noise
    k = max(distribution.n_params // 3, 1)
    noise[:, -2 * k : -k] = (noise[:, -2 * k : -k] / 3).clamp(-0.99, 0.99)
    noise[:, -k:] = log_scale + noise[:, -k:] / 2
    return noise


def pmf(distribution: Distribution, params: Tensor) -> Tensor:
    """[65536] in float64 from params [1, P, 1]."""
    params = params.expand(-1, -1, GRID.shape[1])
    return distribution.log_prob(params, GRID.to(params.dtype)).double().exp()[0]


def draw(distribution: Distribution, params: Tensor, count: int, **options: float) -> Tensor:
    """[count] draws from params [1, P, 1]."""
    generator = torch.Generator().manual_seed(1)
    u = torch.rand(
        1, distribution.uniforms_per_sample, count, generator=generator, dtype=torch.float64
    )
    return distribution.sample(params.expand(-1, -1, count), u.clamp(min=1e-12), **options)[0]


# ---------------------------------------------------------------------------------- log_prob


@each_continuous
@pytest.mark.parametrize("log_scale", [-1e4, -11.0, -9.6, -7.0, -3.0, 1.0, 1e4])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # 1e-12 is the error of the 5-point rule. In float32 each log is rounded at about 10 nats,
    # half an ulp of 10 being 5e-7, and so are the sums and differences before it.
    [(torch.float64, 1e-11), (torch.float32, 5e-6)],
)
def test_the_65536_probabilities_sum_to_one(distribution, log_scale, dtype, tolerance):
    params = some_params(distribution, log_scale).to(dtype)
    assert pmf(distribution, params).sum().item() == pytest.approx(1, abs=tolerance)


def exact_log_mass(family: str, i: int, mean: float, log_scale: float) -> float:
    """log of the mass of sample i to 50 digits."""
    with mpmath.workdps(50):
        scale = mpmath.exp(mpmath.mpf(log_scale))
        low, high = ((mpmath.mpf(i) + half) / 32768 - mpmath.mpf(mean) for half in (-0.5, 0.5))
        low = -mpmath.inf if i == -32768 else low / scale
        high = mpmath.inf if i == 32767 else high / scale
        if low > 0:  # both families are symmetric, and lower tails have the digits
            low, high = -high, -low

        def cdf(a: mpmath.mpf) -> mpmath.mpf:
            if family == "gaussian":
                return mpmath.erfc(-a / mpmath.sqrt(2)) / 2
            return 1 / (1 + mpmath.exp(-a))

        with mpmath.workdps(80):  # neighbours agree in up to 30 digits
            return float(mpmath.log(cdf(high) - cdf(low)))


@pytest.mark.parametrize("family", ["gaussian", "logistic"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # z = (x - mean) / scale is rounded three times and squared: 8 half-ulps, some for the rest.
    [(torch.float64, 1e-12), (torch.float32, 1e-6)],
)
def test_log_prob_equals_the_exact_mass_from_the_centre_to_the_far_tails(family, dtype, tolerance):
    rng = np.random.default_rng(0)
    integers = [-32768, 32767, -32767, 32766, 0, 0, 1, *rng.integers(-32768, 32768, 80)]
    cases = []
    for log_scale in (-11.7, -11.09, -10.4, -9.7, -8.0, -5.0, -1.0, 2.0, 6.9):
        for i in integers:
            steps_away = rng.normal() * 10 ** rng.uniform(-2, 4.5)  # up to 1e5 scales
            cases.append((int(i), i * STEP + steps_away * STEP, log_scale))
    params = torch.tensor([[m, s] for _, m, s in cases]).to(dtype).T[None]  # [1, 2, T]
    x = torch.tensor([[i * STEP for i, _, _ in cases]], dtype=dtype)

    distribution = Gaussian() if family == "gaussian" else LogisticMixture(1)
    if family == "logistic":
        params = torch.cat([torch.zeros_like(params[:, :1]), params], dim=1)
    got = distribution.log_prob(params, x)[0].double().numpy()
    means, log_scales = params[0, -2].tolist(), params[0, -1].tolist()
    exact = [
        exact_log_mass(family, i, mean, log_scale)
        for (i, _, _), mean, log_scale in zip(cases, means, log_scales, strict=True)
    ]
    np.testing.assert_allclose(got, exact, rtol=tolerance, atol=4 * tolerance)
    assert min(exact) < -1e5  # the far tails were among the cases


@pytest.mark.parametrize(
    ("distribution", "family"),
    [(LogisticMixture(10), stats.logistic), (GaussianMixture(10), stats.norm)],
    ids=["logistic", "normal"],
)
def test_a_mixture_is_the_weighted_sum_of_its_components(distribution, family):
    params = some_params(distribution)
    logits, means, log_scales = params[0, :, 0].numpy().reshape(3, 10, 1)
    weights = np.exp(logits) / np.exp(logits).sum()
    edges = (np.arange(-32768, 32769) - 0.5) * STEP
    edges[[0, -1]] = -np.inf, np.inf
    expected = (weights * np.diff(family.cdf((edges - means) / np.exp(log_scales)))).sum(axis=0)
    # Differences of CDFs near 1 keep 16 digits after the point.
    np.testing.assert_allclose(pmf(distribution, params).numpy(), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("classes", [256, 1024])
def test_mu_law_shares_a_class_evenly_among_its_16_bit_samples(classes):
    mu, x = classes - 1, GRID[0].numpy()
    compressed = np.sign(x) * np.log(1 + mu * np.abs(x)) / np.log(1 + mu)
    code = np.rint((compressed + 1) / 2 * mu).astype(int)
    held = np.bincount(code, minlength=classes)
    logits = some_params(MuLaw(classes))
    p = np.where(held > 0, np.exp(logits[0, :, 0].numpy()), 0)
    expected = (p / p.sum())[code] / held[code]
    got = pmf(MuLaw(classes), logits)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)
    assert got.sum().item() == pytest.approx(1, abs=1e-12)
    in_float32 = pmf(MuLaw(classes), logits.float()).sum().item()
    assert in_float32 == pytest.approx(1, abs=5e-6)  # half an ulp of some 10 nats


def test_uniform_logits_cost_the_log_of_the_classes_and_of_the_class_size():
    x = torch.tensor([[0.0, 1.0, -1.0]])
    cost = -MuLaw(256).log_prob(torch.zeros(1, 256, 3), x)
    held = [(MuLaw(256).quantize(GRID) == MuLaw(256).quantize(v)).sum().item() for v in x[0]]
    assert held[0] == 6  # zero shares its class with 1..5; the class at full scale has hundreds
    assert held[1] > 300
    torch.testing.assert_close(cost[0], math.log(256) + torch.tensor(held).log())


def test_digital_silence_at_the_floor_costs_a_fraction_of_a_bit():
    silence, floor = torch.zeros(1, 1), -1e9
    gaussian = Gaussian().log_prob(torch.tensor([[[0.0], [floor]]]), silence)
    logistic = LogisticMixture(1).log_prob(torch.tensor([[[0.0], [0.0], [floor]]]), silence)
    assert gaussian.exp().item() == pytest.approx(math.erf(2 / math.sqrt(2)))  # 95 %: +-2 scales
    assert logistic.exp().item() == pytest.approx(math.tanh(1))  # 76 %
    assert math.exp(MIN_LOG_SCALE) == pytest.approx(STEP / 4)


@each
def test_log_prob_is_that_of_the_nearest_16_bit_sample(distribution):
    params = some_params(distribution).expand(-1, -1, 4)
    x = torch.tensor([[100.4, 100.0, 40000.0, 32767.0]], dtype=torch.float64) * STEP
    a, b, clipped, last = distribution.log_prob(params, x)[0]
    assert a == b
    assert clipped == last


@each
def test_a_sample_that_is_nan_has_a_log_prob_that_is_nan(distribution):
    x = torch.tensor([[math.nan, 0.0]])
    log_prob = distribution.log_prob(some_params(distribution).expand(-1, -1, 2), x)
    assert log_prob.isnan().tolist() == [[True, False]]


@each
def test_gradients_of_log_prob_equal_finite_differences(distribution):
    x = torch.tensor([[-1.0, 0.1, 0.3, 1.0]], dtype=torch.float64)
    params = some_params(distribution, -2.0).repeat(1, 1, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: distribution.log_prob(p, x), (params,), fast_mode=True
    )


@pytest.mark.parametrize("distribution", [Gaussian(), LogisticMixture(1)], ids=str)
def test_gradients_in_float32_equal_those_in_float64_out_to_the_far_tails(distribution):
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([-1.0, 0.25, 1.0]).repeat(1, 1000)
    log_scale = torch.rand(1, 3000, generator=generator) * 18 - 11.7
    away = torch.rand(1, 3000, generator=generator) * 30 - 12  # from e^-12 to e^18 scales
    sign = torch.randn(1, 3000, generator=generator).sign()
    means = (x + sign * torch.exp(log_scale + away)).clamp(-63, 63)
    params = torch.stack([means, log_scale], dim=1)
    if distribution.n_params == 3:
        params = torch.cat([torch.zeros(1, 1, 3000), params], dim=1)

    def gradient(dtype: torch.dtype) -> Tensor:
        p = params.to(dtype).requires_grad_()
        return torch.autograd.grad(distribution.log_prob(p, x.to(dtype)).sum(), p)[0].double()

    # Relative to the largest term of each: log_prob changes by z and z^2 per scale, or by 1.
    exact, error = gradient(torch.float64), gradient(torch.float32) - gradient(torch.float64)
    assert (error.abs() <= 1e-4 * exact.abs() + 1e-5 / params[:, -1:].exp().clamp(max=1)).all()


@pytest.mark.parametrize("log_scale", [-11.5, -10.0, -9.7, -9.0])
def test_the_gaussian_is_smooth_where_its_two_formulas_meet(log_scale):
    z = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    params = torch.stack([z * math.exp(log_scale), torch.full_like(z, log_scale)])[None]
    params.requires_grad_()
    log_prob = Gaussian().log_prob(params, torch.zeros(1, len(z), dtype=torch.float64))
    (gradient,) = torch.autograd.grad(log_prob.sum(), params)
    by_z = gradient[0, 0] * math.exp(log_scale)
    second = by_z.diff() / z.diff()  # of log(mass) by z: between -1 (a density) and 0 (a tail)
    assert second.min() > -1.001
    assert second.max() < 0.001


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_no_finite_parameter_gives_nan_or_infinity(distribution, dtype):
    top = torch.finfo(dtype).max
    extremes = [top, 1e30, 1e9, 1e4, 100.0, 64.5, 12.0, 7.1, 2.0, 1e-3, 1e-38, 0.0]
    values = torch.tensor(extremes + [-v for v in extremes]).to(dtype)
    generator = torch.Generator().manual_seed(0)
    shape = (1, distribution.n_params, 3000)
    params = values[torch.randint(len(values), shape, generator=generator)].requires_grad_()
    x = (torch.rand(1, 3000, generator=generator) * 2.2 - 1.1).clamp(-1, 1)
    log_prob, mean = distribution.log_prob(params, x), distribution.mean(params)
    assert log_prob.dtype == mean.dtype == torch.float32
    for value in (log_prob, mean):
        (gradient,) = torch.autograd.grad(value.mean(), params)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
    assert log_prob.max() <= 1e-6
    u = torch.rand(1, distribution.uniforms_per_sample, 3000, generator=generator)
    u[..., ::3], u[..., 1::3] = 2**-33, 1 - 2**-24  # as near to 0 and 1 as uniforms come
    for temperature in (1e-30, 1e-3, 1.0, 1e30):
        drawn = distribution.sample(params, u, temperature=temperature)
        assert ((drawn >= -1) & (drawn < 1)).all()


# ------------------------------------------------------------------------------------ sample


@pytest.mark.parametrize(
    ("distribution", "log_scale"),
    [(MuLaw(256), 0.0), (MuLaw(1024), 0.0)]
    + [(d, s) for d in (LogisticMixture(1), Gaussian()) for s in (-20.0, -7.0, 0.0)],
    ids=str,
)
def test_sample_inverts_the_cdf_of_log_prob(distribution, log_scale):
    params = some_params(distribution, log_scale)
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    uniforms = u.expand(1, distribution.uniforms_per_sample, -1)
    x = distribution.sample(params.expand(-1, -1, 2000), uniforms)
    # The CDF at the ends of what is drawn as x: a class in mu-law, one 16-bit sample elsewhere.
    drawable, group = distribution.quantize(GRID[0]).unique(return_inverse=True)
    mass = torch.zeros_like(drawable).index_add(0, group, pmf(distribution, params))
    cdf, k = mass.cumsum(0), torch.searchsorted(drawable, x[0])
    assert (u <= cdf[k] + 1e-9).all()
    assert (u >= cdf[k] - mass[k] - 1e-9).all()


@pytest.mark.parametrize("distribution", [MuLaw(256), *CONTINUOUS], ids=str)
def test_draws_follow_log_prob_by_chi_squared(distribution):
    count = 200_000
    params = some_params(distribution, -5.0).float()
    drawable, group = distribution.quantize(GRID[0]).unique(return_inverse=True)
    expected = torch.zeros_like(drawable).index_add(0, group, pmf(distribution, params)) * count
    drawn = torch.searchsorted(drawable, draw(distribution, params, count).double()).bincount(
        minlength=len(drawable)
    )
    bins = ((expected.cumsum(0) - expected / 2) / 500).long().clamp(max=399)  # of neighbours
    merged = [torch.zeros(400).double().index_add(0, bins, v.double()) for v in (expected, drawn)]
    wanted, seen = (v[merged[0] > 100].numpy() for v in merged)
    statistic = ((seen - wanted) ** 2 / wanted).sum()
    assert len(wanted) > 50
    assert stats.chi2.sf(statistic, len(wanted) - 1) > 1e-3


@each
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_larger_uniform_never_draws_a_smaller_sample(distribution, temperature):
    u = torch.linspace(1e-6, 1 - 1e-6, 4000).expand(1, distribution.uniforms_per_sample, -1).clone()
    u[:, :-1] = 0.4
    params = some_params(distribution).float().expand(-1, -1, 4000)
    drawn = distribution.sample(params, u, temperature=temperature)[0]
    assert (drawn.diff() >= 0).all()
    assert drawn[-1] > drawn[0]


@each
def test_what_is_drawn_is_16_bit_sound_that_quantize_leaves_alone(distribution):
    x = draw(distribution, some_params(distribution, -1.0), 5000)
    assert torch.equal(distribution.quantize(x), x)
    assert torch.equal((x / STEP).round() * STEP, x)
    assert ((x >= -1) & (x <= 1 - STEP)).all()


@each
def test_quantize_is_idempotent_on_all_65536_samples(distribution):
    once = distribution.quantize(GRID)
    assert torch.equal(distribution.quantize(once), once)
    if not isinstance(distribution, MuLaw):
        assert torch.equal(once, GRID)


def test_temperature_towards_zero_draws_the_mode():
    logits = some_params(MuLaw(256))
    mode = MuLaw(256).quantize(mu_law_decode(logits[0, :, 0].argmax()).double())
    assert (draw(MuLaw(256), logits, 100, temperature=1e-6) == mode).all()
    for distribution in CONTINUOUS:
        params = some_params(distribution)
        k = max(distribution.n_params // 3, 1)
        heaviest = params[0, :k].argmax() if k > 1 else 0
        expected = distribution.quantize(params[0, -2 * k :][heaviest])
        assert (draw(distribution, params, 100, temperature=1e-6) == expected).all()


def test_no_temperature_overflows_the_largest_logits():
    logits = torch.tensor([3e38, -3e38, 1.0, 3.1e38])[None, :, None]
    assert (draw(MuLaw(4), logits, 100, temperature=1e-30) == MuLaw(4).quantize(GRID[0, -1])).all()


def test_a_uniform_on_the_boundary_of_two_classes_draws_the_lower():
    u = torch.tensor([[[0.25, 0.25 + 1e-6, 0.75, 0.75 + 1e-6]]])
    codes = mu_law_encode(MuLaw(4).sample(torch.zeros(1, 4, 4), u), 4)
    assert codes.tolist() == [[0, 1, 2, 3]]


def test_temperature_divides_logits_and_multiplies_scales():
    for distribution in ALL:
        params = some_params(distribution)
        k = max(distribution.n_params // 3, 1)
        cooler = params.clone()
        if isinstance(distribution, MuLaw):
            cooler /= 0.6
        else:
            cooler[:, : -2 * k] /= 0.6
            cooler[:, -k:] += math.log(0.6)
        a = draw(distribution, params, 5000, temperature=0.6)
        assert torch.equal(a, draw(distribution, cooler, 5000))


def test_top_p_keeps_the_smallest_set_of_most_probable_classes():
    probabilities = torch.tensor([0.15, 0.5, 0.05, 0.3], dtype=torch.float64)
    u = torch.linspace(0.001, 0.999, 999, dtype=torch.float64).expand(1, 1, -1)
    logits = probabilities.log()[None, :, None].expand(-1, -1, 999)
    values = MuLaw(4).quantize(mu_law_decode(torch.arange(4), 4).double())

    def shares(top_p: float | None) -> list[float]:
        drawn = MuLaw(4).sample(logits, u, top_p=top_p)[0]
        assert (drawn.diff() >= 0).all()  # in the order of the classes, not of their probability
        return [(drawn == v).double().mean().item() for v in values]

    for top_p, kept in [(0.01, [1]), (0.49, [1]), (0.7, [1, 3]), (0.9, [0, 1, 3])]:
        mass = probabilities[kept].sum()
        expected = [(probabilities[k] / mass).item() if k in kept else 0.0 for k in range(4)]
        assert shares(top_p) == pytest.approx(expected, abs=2 / 999)  # the uniforms' spacing
    assert shares(1.0) == shares(None)


def test_a_class_without_16_bit_samples_is_never_drawn():
    held = torch.bincount(mu_law_encode(GRID[0], 1024), minlength=1024)
    assert (held == 0).sum() == 39
    assert (torch.bincount(mu_law_encode(GRID[0], 256), minlength=256) > 0).all()
    logits = torch.where(held == 0, 50.0, 0.0)[None, :, None]
    codes = mu_law_encode(draw(MuLaw(1024), logits, 20_000), 1024)
    assert (held[codes] > 0).all()
    assert len(codes.unique()) == 1024 - 39


@pytest.mark.parametrize("distribution", [MuLaw(256), *CONTINUOUS], ids=str)
def test_mean_is_the_expectation_of_what_is_drawn(distribution):
    params = some_params(distribution, -5.0)
    expected = (pmf(distribution, params) * distribution.quantize(GRID[0])).sum()
    # A mean near full scale loses a tail to clipping, here less than a thousandth.
    assert distribution.mean(params).item() == pytest.approx(expected.item(), abs=1e-3)


# ------------------------------------------------------------------------------------ mu-law


@pytest.mark.parametrize("classes", [2, 255, 256, 1024, 65536])
def test_compression_maps_full_scale_to_full_scale_and_expand_undoes_it(classes):
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    y = mu_law_compress(x, classes)
    torch.testing.assert_close(y[[0, 1000, 2000]], torch.tensor([-1.0, 0, 1]).double())
    assert (y.diff() > 0).all()
    torch.testing.assert_close(mu_law_expand(y, classes), x, rtol=0, atol=1e-14)
    torch.testing.assert_close(mu_law_compress(-x, classes), -y)


@pytest.mark.parametrize("classes", [256, 1024])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_known_codes_and_every_code_survives_a_round_trip(classes, dtype):
    x = torch.tensor([-1.0, 0.0, 1.0, -2.0, 2.0], dtype=dtype)
    codes = [0, classes // 2, classes - 1, 0, classes - 1]
    assert mu_law_encode(x, classes).tolist() == codes
    every = torch.arange(classes)
    assert torch.equal(mu_law_encode(mu_law_decode(every, classes).to(dtype), classes), every)


def test_eight_bit_mu_law_keeps_a_sine_at_37_to_39_decibels():
    # 255 steps over [-1, 1] with an error uniform in each: towards full scale the ratio of power to
    # error power tends to 3 * 255^2 / log(256)^2, 38 dB (Jayant and Noll 1984, section 5.4).
    t = torch.arange(16000, dtype=torch.float64)
    for amplitude in (0.9, 0.3, 0.1):
        x = amplitude * torch.sin(2 * math.pi * 440.1 * t / 16000)
        error = MuLaw(256).quantize(x) - x
        snr_db = 10 * torch.log10((x**2).mean() / (error**2).mean()).item()
        assert 36 < snr_db < 39


def test_network_input_compresses_for_mu_law_alone_and_keeps_the_type():
    x = torch.tensor([-0.5, 0.0, 0.5])
    assert torch.equal(MuLaw(256).network_input(x), mu_law_compress(x, 256))
    assert Gaussian().network_input(x) is x
    assert MuLaw(256).network_input(x.bfloat16()).dtype == torch.bfloat16


def test_network_input_has_the_slope_of_its_limit_at_zero():
    x = torch.tensor([0.0, -0.0, 1e-12, -1e-12, 0.3, -1.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(MuLaw(256).network_input(x).sum(), x)
    expected = 255 / math.log(256) / (1 + 255 * x.detach().abs())
    torch.testing.assert_close(slope, expected)
    x = torch.tensor([-0.7, -1e-3, 1e-3, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MuLaw(256).network_input, (x,))


# ----------------------------------------------------------------------------- as an interface


def test_make_distribution_makes_each_by_name_and_size():
    made = [make_distribution(d.name) for d in ALL]
    assert made == [MuLaw(256), MuLaw(256), LogisticMixture(10), Gaussian(), GaussianMixture(10)]
    assert make_distribution("mu_law", 1024) == MuLaw(1024) != MuLaw(256)
    assert make_distribution("gaussian_mixture", 3) == GaussianMixture(3)
    assert [d.n_params for d in ALL] == [256, 1024, 30, 2, 30]
    assert [d.uniforms_per_sample for d in ALL] == [1, 1, 2, 1, 2]


P, U = torch.zeros(2, 256, 5), torch.full((2, 1, 5), 0.5)
G = torch.zeros(2, 2, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_distribution("cauchy"), "choose one of mu_law, logistic_mixture, gaussian_m"),
        (lambda: make_distribution("gaussian", 3), "gaussian has no size, got 3"),
        (lambda: make_distribution("mu_law", 1), "classes must be a whole number in 2..65536"),
        (lambda: LogisticMixture(0), "mixtures must be a whole number in 1..65536, got 0"),
        (lambda: MuLaw(8).log_prob(P, U[:, 0]), r"params must be \[B, 8, T\] for mu_law, got"),
        (lambda: MuLaw().mean(P[0]), r"params must be \[B, 256, T\] for mu_law, got \[256, 5\]"),
        (lambda: MuLaw().log_prob(P, U), r"x must be \[B, T\] = \[2, 5\] like params, got"),
        (lambda: MuLaw().sample(P, U[:1]), r"uniforms must be \[B, U, T\] = \[2, 1, 5\] for mu_l"),
        (lambda: MuLaw().sample(P, U, temperature=0.0), "temperature must be above 0, such as"),
        (lambda: MuLaw().sample(P, U, temperature=math.nan), "temperature must be .* got nan"),
        (lambda: MuLaw().sample(P, U, top_p=0.0), r"top_p must be in \(0, 1\], or None"),
        (lambda: MuLaw().sample(P, U, top_p=1.1), r"top_p must be in \(0, 1\], .* got 1.1"),
        (lambda: Gaussian().sample(G, U, top_p=0.9), "gaussian has none: lower temperature inst"),
    ],
)
def test_a_wrong_value_raises_one_line_that_names_the_remedy(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_integer_samples_raise_with_the_advice_to_divide_them():
    with pytest.raises(TypeError, match=r"x must be floats, got torch.int16: divide 16-bit"):
        MuLaw().quantize(torch.zeros(1, 5, dtype=torch.int16))


@each
def test_half_precision_is_computed_as_float32_and_float64_stays(distribution):
    params = some_params(distribution).bfloat16()
    u = torch.full((1, distribution.uniforms_per_sample, 1), 0.3)
    x = torch.tensor([[0.25]])
    for given, expected in [(params, torch.float32), (params.double(), torch.float64)]:
        log_prob = distribution.log_prob(given, x)
        assert log_prob.dtype == expected
        assert distribution.sample(given, u).dtype == expected
        assert distribution.mean(given).dtype == expected
        assert torch.equal(
            distribution.log_prob(given, x), distribution.log_prob(given.to(expected), x)
        )


@each
def test_columns_and_rows_are_independent(distribution):
    generator = torch.Generator().manual_seed(2)
    params = torch.cat([some_params(distribution, seed=s) for s in range(6)], dim=2)
    params = torch.stack([params[0], params[0].flip(1)])  # [2, P, 6]
    u = torch.rand(2, distribution.uniforms_per_sample, 6, generator=generator)
    x = distribution.sample(params, u)
    log_prob = distribution.log_prob(params, x)
    for b, t in [(0, 0), (1, 3), (1, 5)]:
        p, v = params[b : b + 1, :, t : t + 1], u[b : b + 1, :, t : t + 1]
        assert distribution.sample(p, v) == x[b, t]
        alone = distribution.log_prob(p, x[b : b + 1, t : t + 1])
        torch.testing.assert_close(alone, log_prob[b : b + 1, t : t + 1])


@each
def test_compiles_in_one_graph(distribution):
    params = some_params(distribution).repeat(2, 1, 3).requires_grad_()
    x = torch.tensor([[-1.0, 0.0, 0.5]] * 2)
    u = torch.full((2, distribution.uniforms_per_sample, 3), 0.3)
    torch._dynamo.reset()
    log_prob = torch.compile(distribution.log_prob, fullgraph=True, backend="eager")(params, x)
    drawn = torch.compile(distribution.sample, fullgraph=True, backend="eager")(params, u)
    assert torch.equal(log_prob, distribution.log_prob(params, x))
    assert torch.equal(drawn, distribution.sample(params, u))


def test_tables_made_in_inference_mode_serve_training():
    with torch.inference_mode():
        mu_law = MuLaw(200)  # a size that no other test has put into the cache
        mu_law.quantize(torch.zeros(1, 1))
    params = torch.zeros(1, 200, 3, requires_grad=True)
    loss = mu_law.mean(params).sum() - mu_law.log_prob(params, torch.zeros(1, 3)).sum()
    loss.backward()
    assert params.grad is not None
    assert copy.deepcopy(mu_law) == mu_law


@each
def test_drawing_takes_part_in_no_gradient(distribution):
    params = some_params(distribution).requires_grad_()
    u = torch.full((1, distribution.uniforms_per_sample, 1), 0.3)
    assert not distribution.sample(params, u).requires_grad


@each
def test_training_starts_from_less_than_15_bits_of_speech_at_any_level(distribution):
    generator = torch.Generator().manual_seed(0)
    signs = torch.rand(1, 4000, generator=generator) - 0.5
    laplace = -signs.sign() * torch.log1p(-2 * signs.abs())  # how speech is spread, about
    start = distribution.initial_params()
    assert start.shape == (distribution.n_params,)
    for level in (0.003, 0.03, 0.1):
        x = (laplace * level).clamp(-1, 1)
        assert (
            bits_per_sample(distribution.log_prob(start[None, :, None].expand(-1, -1, 4000), x))
            < 15
        )


def test_the_uniform_guess_costs_16_bits():
    log_prob = torch.full((2, 7), -math.log(65536), dtype=torch.float64)
    assert bits_per_sample(log_prob).item() == pytest.approx(16)


def test_the_initial_components_of_a_mixture_differ():
    log_scales = GaussianMixture(10).initial_params()[20:].tolist()
    assert all(wide - narrow > 0.1 for wide, narrow in pairwise(log_scales))
