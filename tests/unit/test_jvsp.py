"""Every equation of Ma et al. a second way: a loop over numbers in float64."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

from engine.annotators.jvsp import Jvsp as FittedJvsp
from engine.annotators.jvsp import JvspRecipe
from engine.corpus import Corpus
from engine.group import Solo
from engine.numerics.jvsp import Jvsp as JvspSteps
from engine.numerics.jvsp import Transfer, transferred
from engine.training.jvsp import Jvsp, diversity
from engine.training.propagation import arrays_of
from engine.vocab import Vocabulary

TAGS, WIDTH, FEATURES = 4, 5, 3
START = END = TAGS
TRANSFERS: tuple[Transfer, ...] = ("softmax", "scaled-softmax", "sigmoid", "tanh")

Floats = list[float]
Matrix = list[Floats]


def made_network(transfer: Transfer, alpha: float = 0.5, beta: float = 0.01) -> Jvsp:
    torch.manual_seed(0)
    network = Jvsp(FEATURES, TAGS, WIDTH, transfer, 0.5, alpha, beta)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network.eval()


def times(matrix: Matrix, x: Floats) -> Floats:
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in matrix]


def squash(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def phi(x: Floats, transfer: Transfer) -> Floats:
    if transfer == "sigmoid":
        return [squash(one) for one in x]
    if transfer == "tanh":
        return [math.tanh(one) for one in x]
    total = sum(math.exp(one) for one in x)
    scale = len(x) if transfer == "scaled-softmax" else 1
    return [scale * math.exp(one) / total for one in x]


def looped(network: Jvsp, x_D: Floats, inputs: list[int]) -> tuple[Matrix, Matrix]:
    """y_t and V_t of one picture, Eq. 1 to 9 as they stand in the paper."""
    w = {name: one.astype(np.float64).tolist() for name, one in arrays_of(network).items()}
    m = range(WIDTH)
    image = [a + b for a, b in zip(times(w["image.weight"], x_D), w["image.bias"], strict=True)]
    h, c = [0.0] * WIDTH, [0.0] * WIDTH
    hiddens: Matrix = []
    lambdas: Floats = []
    scores: Matrix = []
    visuals: Matrix = []
    for tag in inputs:
        w_k, w_f = w["guide.weight"][tag], w["refine.weight"][tag]  # Eq. 1
        k = [0.0] * WIDTH
        if hiddens:  # Eq. 2
            weighted = [
                sum(share * past[i] for share, past in zip(lambdas, hiddens, strict=True))
                for i in m
            ]
            k = [one / len(hiddens) for one in times(w["knowledge.weight"], weighted)]
        g = [w_k[i] + k[i] for i in m]  # Eq. 3
        v = phi([image[i] * g[i] for i in m], network.transfer)  # Eq. 4
        seen = times(w["visual.weight"], v)
        g_hat = times(w["weigh.weight"], [math.tanh(w_f[i] + seen[i]) for i in m])  # Eq. 5
        t = phi([w_f[i] * g_hat[i] for i in m], network.transfer)  # Eq. 6
        gates = [  # Eq. 7 and 8: torch has W_v and W_t side by side; i, f, c, o follow each other
            a + b
            for a, b in zip(
                times(w["cell.weight_ih"], v + t), times(w["cell.weight_hh"], h), strict=True
            )
        ]
        i_t, f_t, n_t, o_t = (gates[n * WIDTH : (n + 1) * WIDTH] for n in range(4))
        c = [squash(f_t[i]) * c[i] + squash(i_t[i]) * math.tanh(n_t[i]) for i in m]
        h = [squash(o_t[i]) * math.tanh(c[i]) for i in m]
        y = times(w["out.weight"], [h[i] + v[i] for i in m])  # Eq. 9
        total = sum(math.exp(one) for one in y)
        lambdas.append(max(math.exp(one) / total for one in y))
        hiddens.append(h)
        scores.append(y)
        visuals.append(v)
    return scores, visuals


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_steps_are_what_the_equations_say(transfer: Transfer, rng: np.random.Generator) -> None:
    network = made_network(transfer)
    x_BD = rng.standard_normal((3, FEATURES)).astype(np.float32)
    inputs = [[START, 2, 0, 3], [START, 1, 1, 1], [START, 0, 3, 2]]
    with torch.no_grad():
        y_BTO, v_BTM = network.steps(torch.from_numpy(x_BD), torch.tensor(inputs))
    for row in range(3):
        scores, visuals = looped(network, x_BD[row].tolist(), inputs[row])
        np.testing.assert_allclose(y_BTO[row].numpy(), scores, atol=2e-5)
        np.testing.assert_allclose(v_BTM[row].numpy(), visuals, atol=2e-5)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_numpy_steps_as_torch_does(transfer: Transfer, rng: np.random.Generator) -> None:
    network = made_network(transfer)
    x_BD = rng.standard_normal((6, FEATURES)).astype(np.float32)
    inputs_BT = np.column_stack([np.full(6, START), rng.integers(0, TAGS, (6, 5))])
    with torch.no_grad():
        logits, _ = network.steps(torch.from_numpy(x_BD), torch.from_numpy(inputs_BT))
        image_BM = network.image(torch.from_numpy(x_BD)).numpy()
        expected_BTO = torch.log_softmax(logits, dim=2).numpy()
    steps = JvspSteps(arrays_of(network), transfer)
    state = steps.start(image_BM)
    for step in range(6):
        log_BO, state = steps.step(state, inputs_BT[:, step])
        assert log_BO.dtype == np.float32
        assert {one.dtype for one in state} == {np.dtype(np.float32)}
        np.testing.assert_allclose(log_BO, expected_BTO[:, step], atol=1e-5)
    assert steps.step(steps.start(image_BM[:0]), inputs_BT[:0, 0])[0].shape == (0, TAGS + 1)


def test_the_softmax_is_over_the_features() -> None:
    x_BM = np.log(np.array([[1, 2, 5], [4, 4, 8]], dtype=np.float32))
    np.testing.assert_allclose(
        transferred(x_BM, "softmax"), [[1 / 8, 1 / 4, 5 / 8], [1 / 4, 1 / 4, 1 / 2]], rtol=1e-6
    )


def looped_diversity(visuals: Matrix, beta: float) -> float:
    """Eq. 10: products of what is at least beta in a step and in the one before."""
    total = 0.0
    for before, now in itertools.pairwise(visuals):
        for a, b in zip(before, now, strict=True):
            if a >= beta and b >= beta:
                total += a * b
    return total / (len(visuals) - 1) if len(visuals) > 1 else 0.0


def test_the_diversity_loss_by_hand() -> None:
    """Three steps: (0.6·0.5 + 0.3·0.2) + (0.5·0.4), over two pairs; 0.009 does not count."""
    v_BTM = torch.tensor([[[0.6, 0.3, 0.009], [0.5, 0.2, 0.3], [0.4, 0.005, 0.009], [9, 9, 9]]])
    found = diversity(v_BTM, torch.tensor([3]), 0.01)
    assert float(found[0]) == pytest.approx((0.36 + 0.2) / 2)
    assert float(diversity(v_BTM, torch.tensor([1]), 0.01)[0]) == 0


def test_the_diversity_loss_is_what_a_loop_says(rng: np.random.Generator) -> None:
    v_BTM = rng.dirichlet(np.ones(6) * 0.5, (5, 4))
    lengths = [4, 2, 3, 1, 4]
    found_B = diversity(torch.from_numpy(v_BTM), torch.tensor(lengths), 0.05)
    for row, length in enumerate(lengths):
        expected = looped_diversity(v_BTM[row, :length].tolist(), 0.05)
        assert float(found_B[row]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0])
def test_the_loss_is_what_its_equation_says(alpha: float, rng: np.random.Generator) -> None:
    """Eq. 11, of pictures with two tags, one tag, and four of which END was cut."""
    network = made_network("softmax", alpha, beta=0.1)
    x_BD = rng.standard_normal((3, FEATURES)).astype(np.float32)
    targets = [[2, 0, END, -1], [3, END, -1, -1], [1, 2, 3, 0]]
    with torch.no_grad():
        found_B = network(torch.from_numpy(x_BD), torch.tensor(targets))
    for row, padded in enumerate(targets):
        known = [tag for tag in padded if tag >= 0]
        scores, visuals = looped(network, x_BD[row].tolist(), [START, *known[:-1]])
        total = 0.0
        for y, tag in zip(scores, known, strict=True):
            total -= math.log(math.exp(y[tag]) / sum(math.exp(one) for one in y))
        expected = total / len(known) + alpha * looped_diversity(visuals, 0.1)
        assert float(found_B[row]) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_goes_through_all_of_it(rng: np.random.Generator) -> None:
    network = made_network("softmax")
    x_BD = torch.from_numpy(rng.standard_normal((2, FEATURES)).astype(np.float32))
    network(x_BD, torch.tensor([[2, 0, END], [3, END, -1]])).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_dropout_leaves_the_recurrence_alone() -> None:
    """Of 1, y is W_s V_t alone (Eq. 9), yet V_t still follows from the states before (Eq. 2)."""
    network = made_network("softmax")
    x_BD, inputs_BT = torch.ones(1, FEATURES), torch.tensor([[START, 2, 1]])
    network.dropout.p = 1.0
    network.train()
    with torch.no_grad():
        y_BTO, v_BTM = network.steps(x_BD, inputs_BT)
        np.testing.assert_allclose(y_BTO, network.out(v_BTM), atol=1e-6)
        network.knowledge.weight.zero_()
        _, alone_BTM = network.steps(x_BD, inputs_BT)
    np.testing.assert_array_equal(alone_BTM[:, 0], v_BTM[:, 0])
    assert (alone_BTM[:, 1:] - v_BTM[:, 1:]).abs().amax(dim=(0, 2)).min() > 1e-3


def drawn(rng: np.random.Generator) -> Corpus:
    labels_NV = np.eye(3)[rng.integers(0, 3, 20)].astype(np.float32)
    return Corpus(
        tuple(map(str, range(20))),
        rng.standard_normal((20, 6)).astype(np.float32),
        sparse.csr_matrix(labels_NV),
        (6,),
    )


VOCABULARY = Vocabulary(("a", "b", "c"), (1, 1, 1))


def test_a_fitted_one_keeps_its_transfer(tmp_path: Path, rng: np.random.Generator) -> None:
    recipe = JvspRecipe.model_validate({"transfer": "tanh", "optimisation": {"epochs": 1}})
    fitted = recipe.fit(drawn(rng), VOCABULARY, Solo())
    fitted.save(tmp_path)
    loaded = FittedJvsp.load(tmp_path)
    assert isinstance(loaded.network, JvspSteps)
    assert loaded.network.transfer == "tanh"


@pytest.mark.parametrize(
    ("transfer", "lifts", "factor"),
    [("softmax", True, 8), ("softmax", False, 1), ("sigmoid", True, 1)],
)
def test_what_reads_a_softmax_begins_and_learns_so_many_times_as_large(
    transfer: Transfer, lifts: bool, factor: int, rng: np.random.Generator
) -> None:
    """Adam's first step is the learning rate long, and the only one of an epoch of one batch."""
    corpus = drawn(rng)
    plain = {"width": 8, "transfer": "sigmoid"}
    asked = {"width": 8, "transfer": transfer, "lift_readers": lifts}

    def after(rate: float, settings: dict[str, object]) -> dict[str, NDArray[np.float32]]:
        loop = {"epochs": 1, "learning_rate": rate}
        recipe = JvspRecipe.model_validate({**settings, "optimisation": loop})
        fitted = recipe.fit(corpus, VOCABULARY, Solo())
        assert isinstance(fitted, FittedJvsp)
        return fitted.fitted.weights

    first, start, end = after(1e-12, plain), after(1e-12, asked), after(1e-3, asked)
    for name in ("visual.weight", "cell.weight_ih"):
        np.testing.assert_allclose(start[name], first[name] * factor, rtol=1e-5)
        step = np.abs(end[name] - start[name]).max()
        assert step == pytest.approx(1e-3 * factor, rel=1e-2)
    for name in ("weigh.weight", "out.weight"):
        np.testing.assert_allclose(start[name], first[name], rtol=1e-5)
        assert np.abs(end[name] - start[name]).max() == pytest.approx(1e-3, rel=1e-2)
