import numpy as np
import pytest
import torch

from stages.geo import unit_vectors
from stages.variogram import exhaustive, gpu
from stages.variogram.blocks import along_curve, spatial_blocks
from stages.variogram.empirical import estimate, lag_edges_km
from stages.variogram.tiles import Part, sum_tiles

DEVICES = [torch.device("cpu")] + [torch.device("cuda")] * torch.cuda.is_available()  # the same code on both


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("edges_km", [lag_edges_km(0.1, 40), np.array([5.0, 100.0, 3000.0])], ids=["all", "given"])
@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("other", [slice(0, 300), slice(170, 300)], ids=["with itself", "with another"])
def test_the_sums_are_those_of_the_processor(device, edges_km, robust, other, scatter, monkeypatch):
    monkeypatch.setattr(gpu, "TILE", 128)  # 128, 128, 44
    latitude, longitude = scatter(300, 3)
    latitude[:4], longitude[:4] = [90, -90, 0, 0], [0, 0, 180, -180]  # poles, one place on the antimeridian
    vectors = unit_vectors(latitude, longitude)
    blocks = spatial_blocks(vectors)
    order = np.lexsort((along_curve(vectors), blocks))
    features = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    columns = vectors[order], features, np.arange(300) // 3, blocks[order]
    pairs = Part(*columns), Part(*(column[other] for column in columns)), other.start == 0, edges_km, robust
    told, its_told = [], []
    ours, its = gpu.sum_tiles_on(device, *pairs, told.append), sum_tiles(*pairs, 1, its_told.append)
    assert sum(told) == sum(its_told) == (300 * 299 // 2 if other.start == 0 else 300 * 130)
    np.testing.assert_array_equal(ours[..., 0], its[..., 0])
    np.testing.assert_allclose(ours, its, rtol=1e-5, atol=1e-5)  # the processor's arc sine is a float32


def test_a_gpu_is_used_if_there_is_one(scatter, monkeypatch):
    latitude, longitude = scatter(200, 1)
    features = np.random.default_rng(0).normal(size=(200, 8))
    alone = estimate(latitude, longitude, features, edges_km=lag_edges_km(0.1, 20))
    asked = []

    def sum_tiles_on(device, *pairs):
        asked.append(device.type)
        return gpu.sum_tiles_on(torch.device("cpu"), *pairs)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(exhaustive, "sum_tiles_on", sum_tiles_on)
    there = estimate(latitude, longitude, features, edges_km=lag_edges_km(0.1, 20))
    assert asked == ["cuda"]
    np.testing.assert_array_equal(there.n_pairs, alone.n_pairs)
    np.testing.assert_allclose(there.semivariance, alone.semivariance, rtol=1e-6)
    np.testing.assert_allclose(there.se_block, alone.se_block, rtol=1e-4)


def test_parts_of_any_size_have_the_same_sums(scatter, monkeypatch):
    latitude, longitude = scatter(500, 2)
    vectors = unit_vectors(latitude, longitude)
    blocks = spatial_blocks(vectors)
    order = np.lexsort((along_curve(vectors), blocks))
    features = np.random.default_rng(1).normal(size=(500, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    photos = vectors[order], features, np.arange(500) // 2, blocks[order], lag_edges_km(0.1, 30)
    whole = exhaustive.sum_all_pairs(*photos, robust=True)
    monkeypatch.setattr(exhaustive, "PART", 77)
    in_parts = exhaustive.sum_all_pairs(*photos, robust=True)
    np.testing.assert_array_equal(in_parts[..., 0], whole[..., 0])
    np.testing.assert_allclose(in_parts, whole, rtol=1e-6)  # a float32 product's rounding depends on its shape
