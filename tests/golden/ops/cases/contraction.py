"""Products that sum: matrix products and Einstein's sums."""

import tensorflow as tf
from make import case, integers, uniform



def einsum(equation, *shapes):
    """Einstein's sum of random inputs."""
    return case("einsum", [uniform(shape) for shape in shapes], lambda *x: tf.einsum(equation, *x), equation=equation)


CASES = [
    case("matmul", [uniform([2, 3]), uniform([3, 4])], tf.matmul),
    case("matmul", [uniform([3, 2]), uniform([4, 3])], lambda a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True), transpose_a=True, transpose_b=True),
    case("matmul", [uniform([5, 1, 2, 3]), uniform([4, 3, 2])], tf.matmul),
    case("matmul", [uniform([2, 0]), uniform([0, 3])], tf.matmul),
    case("matmul", [uniform([2, 3], dtype="float64"), uniform([3, 2], dtype="float64")], tf.matmul),
    case("matmul", [integers([2, 3], -5, 5), integers([3, 4], -5, 5)], tf.matmul),
    einsum("ij,jk->ik", [2, 3], [3, 4]),
    einsum("ij,jk", [2, 3], [3, 4]),
    einsum("bqhd,bkhd->bhqk", [2, 3, 2, 4], [2, 5, 2, 4]),
    einsum("bhqk,bkhd->bqhd", [2, 2, 3, 5], [2, 5, 2, 4]),
    einsum("ii->i", [3, 3]),
    einsum("ii", [3, 3]),
    einsum("aba->b", [2, 3, 2]),
    einsum("a...a->...", [2, 3, 2]),
    einsum("aaab->b", [2, 2, 2, 3]),
    einsum("ji", [2, 3]),
    einsum("ij->", [2, 3]),
    einsum("i,j->ij", [2], [3]),
    einsum("i,i", [3], [3]),
    einsum(",ij->ji", [], [2, 3]),
    einsum("...ij,...jk->...ik", [2, 1, 2, 3], [4, 3, 5]),
    einsum("i...,j...->ij...", [2, 3], [4, 3]),
    einsum("...,...->...", [2, 1], [3]),
    einsum("ab,bc,cd->ad", [2, 3], [3, 4], [4, 2]),
    einsum("abc,cd,a->bd", [2, 3, 4], [4, 2], [2]),
    einsum("ij,ik->i", [2, 3], [2, 4]),
    einsum("AB,Ba->Aa", [2, 3], [3, 2]),
    einsum("ij->j...", [2, 3]),
    einsum("ij,jk->ik", [2, 0], [0, 3]),
    einsum("ijk,ijk->ijk", [2, 3, 2], [2, 3, 2]),
    case("einsum", [integers([2, 3], -5, 5), integers([3, 2], -5, 5)], lambda a, b: tf.einsum("ij,ji->i", a, b), equation="ij,ji->i"),
]
