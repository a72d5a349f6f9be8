// Features of points reduced to one row a voxel.
//
// Results as of mmcv.ops.dynamic_scatter. Each voxel is made by one thread, from its points in their own
// order, so the result does not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

enum Reduction { kMax, kMean, kSum };

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  if (in[0].rank != 2 || in[1].rank != 2) return fail(host, "feats and coors must have rank 2");
  const std::int64_t points = in[0].shape[0], cells = in[1].shape[0];
  if (points >= 0 && cells >= 0 && points != cells) {
    return fail(host, "coors has " + std::to_string(cells) + " rows, feats has " + std::to_string(points));
  }
  if (in[1].shape[1] == 0) return fail(host, "coors must have at least one axis");
  if (attributes[0].i < kMax || attributes[0].i > kSum) {
    return fail(host, "reduce must be 0, 1 or 2, not " + std::to_string(attributes[0].i));
  }
  set_shape(out[0], {-1, in[0].shape[1]});
  set_shape(out[1], {-1, in[1].shape[1]});
  return 0;
}

struct Groups {
  std::vector<std::int64_t> points;  // of one voxel after the other, each in their own order
  std::vector<std::int64_t> starts;  // of the voxels, and the end of the last one
};

Groups group(const std::int64_t* coors, std::int64_t count, std::int64_t axes) {
  Groups groups;
  const auto cell = [=](std::int64_t point) { return coors + point * axes; };
  for (std::int64_t i = 0; i < count; ++i) {
    if (std::all_of(cell(i), cell(i) + axes, [](auto place) { return place >= 0; })) groups.points.push_back(i);
  }
  std::sort(groups.points.begin(), groups.points.end(), [&](std::int64_t left, std::int64_t right) {
    const std::int64_t *one = cell(left), *other = cell(right);
    for (std::int64_t axis = 0; axis < axes; ++axis) {
      if (one[axis] != other[axis]) return one[axis] < other[axis];
    }
    return left < right;
  });
  for (std::size_t k = 0; k < groups.points.size(); ++k) {
    if (k == 0 || !std::equal(cell(groups.points[k]), cell(groups.points[k]) + axes, cell(groups.points[k - 1]))) {
      groups.starts.push_back(static_cast<std::int64_t>(k));
    }
  }
  groups.starts.push_back(static_cast<std::int64_t>(groups.points.size()));
  return groups;
}

// Reduces the rows of one voxel into `row`, which is as wide as they are.
template <class T, class W = wide_t<T>>
void reduce(const T* feats, const std::int64_t* first, const std::int64_t* last, std::int64_t channels,
            std::int64_t reduction, W* row) {
  for (std::int64_t c = 0; c < channels; ++c) row[c] = W(feats[*first * channels + c]);
  for (const std::int64_t* point = first + 1; point != last; ++point) {
    const T* other = feats + *point * channels;
    if (reduction == kMax) {
      // A NaN is as in torch the largest of all: it compares false with anything.
      for (std::int64_t c = 0; c < channels; ++c) {
        const W value = W(other[c]);
        row[c] = value <= row[c] || std::isnan(row[c]) ? row[c] : value;
      }
    } else {
      for (std::int64_t c = 0; c < channels; ++c) row[c] += W(other[c]);
    }
  }
  if (reduction != kMean) return;
  const W number = static_cast<W>(last - first);
  for (std::int64_t c = 0; c < channels; ++c) row[c] /= number;
}

template <class T>
int write(const Groups& groups, const shipway_tensor* in, std::int64_t reduction, shipway_host* host) {
  const auto voxels = static_cast<std::int64_t>(groups.starts.size()) - 1;
  const std::int64_t channels = in[0].shape[1], axes = in[1].shape[1];
  const std::int64_t rows[2] = {voxels, channels}, cells[2] = {voxels, axes};
  T* to = static_cast<T*>(host->allocate(host, 0, rows, 2));
  auto* places = static_cast<std::int64_t*>(host->allocate(host, 1, cells, 2));
  if (voxels == 0) return 0;
  if ((to == nullptr && channels > 0) || places == nullptr) {
    return fail(host, "there is no memory for " + std::to_string(voxels) + " voxels");
  }
  const T* feats = data<T>(in[0]);
  const std::int64_t* coors = data<std::int64_t>(in[1]);
  return parallel(host, voxels, 64, [&](std::int64_t begin, std::int64_t end) {
    std::vector<wide_t<T>> row(static_cast<std::size_t>(channels));
    for (std::int64_t v = begin; v < end; ++v) {
      const std::int64_t* first = groups.points.data() + groups.starts[static_cast<std::size_t>(v)];
      const std::int64_t* last = groups.points.data() + groups.starts[static_cast<std::size_t>(v) + 1];
      std::copy(coors + *first * axes, coors + (*first + 1) * axes, places + v * axes);
      reduce(feats, first, last, channels, reduction, row.data());
      for (std::int64_t c = 0; c < channels; ++c) to[v * channels + c] = T(row[static_cast<std::size_t>(c)]);
    }
  });
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor*,
            shipway_host* host) {
  return with_float(in[0].dtype, host, [&](auto tag) {
    try {
      const Groups groups = group(data<std::int64_t>(in[1]), in[1].shape[0], in[1].shape[1]);
      return write<decltype(tag)>(groups, in, attributes[0].i, host);
    } catch (const std::exception&) {
      return fail(host, "the kernel ran out of memory");
    }
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"reduce", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op dynamic_scatter_op;
const shipway_op dynamic_scatter_op = {SHIPWAY_OP_ABI, 1, "shipway", "DynamicScatter", "dynamic_scatter",
                                       "TI", "Tl", kFloats, 0, 1, kAttributes, nullptr, infer, compute};

}  // namespace shipway
