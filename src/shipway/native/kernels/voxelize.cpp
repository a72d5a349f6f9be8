// Points sorted into the cells of a grid.
//
// Source: VoxelNet (Zhou and Tuzel 2018), PointPillars; as mmcv.ops.Voxelization, deterministic.

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

struct Grid {
  double size[3], least[3];
  std::int64_t cells[3];  // x, y, z
};

int read_grid(const shipway_attribute* attributes, Grid& grid, shipway_host* host) {
  if (attributes[0].count != 3 || attributes[1].count != 6) {
    return fail(host, "voxel_size must be x, y, z and coors_range the least x, y, z and the largest");
  }
  for (int axis = 0; axis < 3; ++axis) {
    grid.size[axis] = attributes[0].floats[axis];
    grid.least[axis] = attributes[1].floats[axis];
    const double wide = attributes[1].floats[axis + 3] - grid.least[axis];
    const double cells = std::nearbyint(wide / grid.size[axis]);
    if (!(grid.size[axis] > 0) || !(cells >= 1 && cells < 2147483648.0)) {
      return fail(host, "coors_range must hold at least one voxel on each axis");
    }
    grid.cells[axis] = static_cast<std::int64_t>(cells);
  }
  double all = 1;
  for (const std::int64_t cells : grid.cells) all *= static_cast<double>(cells);
  if (all > 4e18) return fail(host, "the grid has more voxels than can be counted");
  return 0;
}

int check(const shipway_tensor* in, shipway_host* host) {
  if (in[0].rank != 2) return fail(host, "points must have rank 2");
  if (in[0].shape[1] >= 0 && in[0].shape[1] < 3) return fail(host, "points need three coordinates at least");
  return 0;
}

// Writes the cell of a point, z y x; false, and -1s, where it is outside or a NaN.
template <class T>
bool cell_of(const T* point, const Grid& grid, std::int32_t* cell) {
  using W = wide_t<T>;
  for (int axis = 0; axis < 3; ++axis) {
    const W place = std::floor((W(point[axis]) - W(grid.least[axis])) / W(grid.size[axis]));
    if (!(place >= 0 && place < W(grid.cells[axis]))) {
      std::fill(cell, cell + 3, -1);
      return false;
    }
    cell[2 - axis] = static_cast<std::int32_t>(place);
  }
  return true;
}

int infer_dynamic(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
                  shipway_host* host) {
  Grid grid;
  if (check(in, host) || read_grid(attributes, grid, host)) return 1;
  set_shape(out[0], {in[0].shape[0], 3});
  return 0;
}

int compute_dynamic(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
                    shipway_host* host) {
  Grid grid;
  if (read_grid(attributes, grid, host)) return 1;
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    const T* points = data<T>(in[0]);
    const std::int64_t wide = in[0].shape[1];
    std::int32_t* to = data<std::int32_t>(out[0]);
    return parallel(host, in[0].shape[0], 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) cell_of(points + i * wide, grid, to + 3 * i);
    });
  });
}

int infer_hard(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
               shipway_host* host) {
  Grid grid;
  if (check(in, host) || read_grid(attributes, grid, host)) return 1;
  if (attributes[2].i < 1 || attributes[3].i < 1) {
    return fail(host, "max_points and max_voxels must be at least 1");
  }
  set_shape(out[0], {-1, attributes[2].i, in[0].shape[1]});
  set_shape(out[1], {-1, 3});
  set_shape(out[2], {-1});
  return 0;
}

struct Voxels {
  std::vector<std::int32_t> cells;              // z y x of each voxel
  std::vector<std::vector<std::int64_t>> points;  // of each voxel, in their own order
};

template <class T>
Voxels fill(const T* points, std::int64_t count, std::int64_t wide, const Grid& grid,
            std::int64_t most_points, std::int64_t most_voxels) {
  Voxels voxels;
  std::unordered_map<std::int64_t, std::size_t> known;
  for (std::int64_t i = 0; i < count; ++i) {
    std::int32_t cell[3];
    if (!cell_of(points + i * wide, grid, cell)) continue;
    const std::int64_t key = (std::int64_t{cell[0]} * grid.cells[1] + cell[1]) * grid.cells[0] + cell[2];
    auto found = known.find(key);
    if (found == known.end()) {
      if (static_cast<std::int64_t>(voxels.points.size()) >= most_voxels) continue;
      found = known.emplace(key, voxels.points.size()).first;
      voxels.points.emplace_back();
      voxels.cells.insert(voxels.cells.end(), cell, cell + 3);
    }
    auto& inside = voxels.points[found->second];
    if (static_cast<std::int64_t>(inside.size()) < most_points) inside.push_back(i);
  }
  return voxels;
}

template <class T>
int write(const Voxels& voxels, const T* points, std::int64_t wide, std::int64_t most_points,
          shipway_host* host) {
  const auto count = static_cast<std::int64_t>(voxels.points.size());
  const std::int64_t shape[3] = {count, most_points, wide}, cells[2] = {count, 3};
  T* to = static_cast<T*>(host->allocate(host, 0, shape, 3));
  auto* places = static_cast<std::int32_t*>(host->allocate(host, 1, cells, 2));
  auto* numbers = static_cast<std::int32_t*>(host->allocate(host, 2, cells, 1));
  if (count == 0) return 0;
  if (to == nullptr || places == nullptr || numbers == nullptr) {
    return fail(host, "there is no memory for the result");
  }
  std::copy(voxels.cells.begin(), voxels.cells.end(), places);
  for (std::int64_t v = 0; v < count; ++v) {
    const auto& inside = voxels.points[static_cast<std::size_t>(v)];
    numbers[v] = static_cast<std::int32_t>(inside.size());
    for (const std::int64_t point : inside) to = std::copy(points + point * wide, points + (point + 1) * wide, to);
    const std::int64_t rest = (most_points - numbers[v]) * wide;
    to = std::fill_n(to, rest, T(wide_t<T>(0)));
  }
  return 0;
}

int compute_hard(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor*,
                 shipway_host* host) {
  Grid grid;
  if (read_grid(attributes, grid, host)) return 1;
  const std::int64_t count = in[0].shape[0], wide = in[0].shape[1];
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    const T* points = data<T>(in[0]);
    try {
      const Voxels voxels = fill(points, count, wide, grid, attributes[2].i, attributes[3].i);
      return write(voxels, points, wide, attributes[2].i, host);
    } catch (const std::exception&) {
      return fail(host, "the kernel ran out of memory");
    }
  });
}

constexpr shipway_attribute_spec kDynamic[] = {
    {"voxel_size", SHIPWAY_ATTR_FLOATS, 1, 0, 0, nullptr, nullptr, 0},
    {"coors_range", SHIPWAY_ATTR_FLOATS, 1, 0, 0, nullptr, nullptr, 0},
};
constexpr shipway_attribute_spec kHard[] = {
    {"voxel_size", SHIPWAY_ATTR_FLOATS, 1, 0, 0, nullptr, nullptr, 0},
    {"coors_range", SHIPWAY_ATTR_FLOATS, 1, 0, 0, nullptr, nullptr, 0},
    {"max_points", SHIPWAY_ATTR_INT, 0, 35, 0, nullptr, nullptr, 0},
    {"max_voxels", SHIPWAY_ATTR_INT, 0, 20000, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op dynamic_voxelize_op;
const shipway_op dynamic_voxelize_op = {SHIPWAY_OP_ABI, 1, "shipway", "DynamicVoxelize",
                                        "dynamic_voxelize", "T", "i", kFloats, 0, 2, kDynamic, nullptr,
                                        infer_dynamic, compute_dynamic};
extern const shipway_op hard_voxelize_op;
const shipway_op hard_voxelize_op = {SHIPWAY_OP_ABI, 1, "shipway", "HardVoxelize", "hard_voxelize", "T",
                                     "Tii", kFloats, 0, 4, kHard, nullptr, infer_hard, compute_hard};

}  // namespace shipway
