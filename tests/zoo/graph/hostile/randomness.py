"""Cases about operators that draw random numbers."""

import numpy as np

from hostile.casebook import Draw, case, graph, scalar


@case("random")
def two_draws_of_one_tensor(draw: Draw):
    """Two RandomNormalLike of one input are two draws; merged, their difference is 0."""
    text = "(float[4,50] x) => (float[4,50] y) { a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b) }"
    return graph(text), [{"x": draw(4, 50)}]


@case("random")
def draw_without_inputs(draw: Draw):
    """RandomUniform has no inputs and is no constant."""
    text = "(float[4,50] x) => (float[4,50] y) { r = RandomUniform <shape = [4,50]> () a = Add(x, r) y = Sub(a, x) }"
    return graph(text), [{"x": draw(4, 50)}]


@case("random")
def bernoulli_of_a_constant(draw: Draw):
    """Bernoulli of constant probabilities is no constant."""
    model = graph(
        "(float[4,50] x) => (float[4,50] y) { r = Bernoulli(p) y = Mul(x, r) }",
        p=np.full((4, 50), 0.5, "f"),
    )
    return model, [{"x": np.ones((4, 50), "f")}]


@case("random")
def dropout_in_training(draw: Draw):
    """Dropout with a true training flag drops, over a constant too."""
    model = graph(
        "(float[4,50] x) => (float[4,50] y) <float ratio = {0.5}, bool training = {1}> { d = Dropout(w, ratio, training) y = Mul(x, d) }",
        w=np.ones((4, 50), "f"),
    )
    return model, [{"x": np.ones((4, 50), "f")}]


@case("random")
def dropout_whose_mode_is_an_input(draw: Draw):
    """The training flag is decided by the caller."""
    text = "(float[4,50] x, bool training) => (float[4,50] y) <float ratio = {0.5}> { y = Dropout(x, ratio, training) }"
    return graph(text), [{"x": np.ones((4, 50), "f"), "training": scalar(True, bool)}]


@case()
def dropout_at_rest(draw: Draw):
    """Without training Dropout is the identity, and its mask is all true."""
    model = graph(
        """(float[N,5] x) => (float[N,5] y, bool[N,5] m) <float ratio = {0.5}, bool training = {0}> {
            a = Dropout(x, ratio)
            b, m = Dropout(a, ratio, training)
            y = Neg(b)
        }"""
    )
    return model, [{"x": draw.wild(size, 5)} for size in (2, 0)]


@case()
def dropout_in_training_that_drops_nothing(draw: Draw):
    """A ratio of 0 in training drops nothing."""
    text = "(float[N,5] x) => (float[N,5] y) <float ratio = {0}, bool training = {1}> { a = Dropout(x, ratio, training) y = Neg(a) }"
    return graph(text), [{"x": draw(2, 5)}]


@case("random")
def draws_with_equal_seeds(draw: Draw):
    """The same seed gives the same first draw, and a new one on each run."""
    model = graph(
        """(float[4,50] x) => (float[4,50] y, float[4,50] z) {
            a = RandomNormal <shape = [4,50], seed = 7.0> ()
            b = RandomNormal <shape = [4,50], seed = 8.0> ()
            y = Add(x, a)
            z = Add(x, b)
        }"""
    )
    return model, [{"x": draw(4, 50)}]


@case("random")
def draw_multiplied_by_constants(draw: Draw):
    """Constants around a draw may fold, the draw may not go with them."""
    model = graph(
        """(float[4,50] x) => (float[4,50] y) {
            r = RandomUniformLike <low = 1.0, high = 2.0> (k)
            s = Add(k, k)
            t = Mul(r, s)
            y = Add(x, t)
        }""",
        k=np.ones((4, 50), "f"),
    )
    return model, [{"x": draw(4, 50)}]


@case("random")
def draw_inside_a_loop(draw: Draw):
    """A draw in a Loop body does not depend on the iteration and may not be hoisted out."""
    model = graph(
        """(float[50] x) => (float[?,50] y) <int64 three = {3}, bool go = {1}> {
            y = Loop (three, go) <body = b (int64 i, bool c) => (bool d, float[50] o) {
                d = Identity(c)
                r = RandomNormalLike(x)
                o = Add(x, r)
            }>
        }"""
    )
    return model, [{"x": draw(50)}]


@case("random")
def multinomial_of_a_constant(draw: Draw):
    """Multinomial of constant weights is no constant."""
    model = graph(
        "(int32[1,200] x) => (int32[1,200] y) { r = Multinomial <sample_size = 200> (p) y = Add(x, r) }",
        p=np.zeros((1, 8), "f"),
    )
    return model, [{"x": np.zeros((1, 200), np.int32)}]
