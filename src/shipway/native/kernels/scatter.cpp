// Values gathered into rows by an index: their sum, mean or largest.
//
// Names and results as in torch_scatter and DrivingSDK. Each row of the output is made by one thread,
// in the order of the values, so the result does not depend on their number.

#include <algorithm>
#include <cmath>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

// src as [outer, count, inner], index over `count` alone or one for each value.
struct Layout {
  std::int64_t outer = 1, count = 1, inner = 1, rows = 0, dim = 0;
  bool shared = true;

  std::int64_t elements() const { return outer * rows * inner; }  // of the result
};

int read_layout(const shipway_tensor* in, const shipway_attribute* attributes, Layout& layout,
                shipway_host* host) {
  const shipway_tensor &src = in[0], &index = in[1];
  const std::int64_t dim = attributes[0].i < 0 ? attributes[0].i + src.rank : attributes[0].i;
  if (dim < 0 || dim >= src.rank) return fail(host, "dim is not an axis of src");
  layout.dim = dim;
  layout.rows = attributes[1].i;
  layout.shared = index.rank == 1;
  if (!layout.shared && index.rank != src.rank) {
    return fail(host, "index must have one axis, or as many as src");
  }
  for (std::int64_t axis = 0; axis < src.rank; ++axis) {
    std::int64_t& part = axis < dim ? layout.outer : axis == dim ? layout.count : layout.inner;
    part = product(part, src.shape[axis]);
    const std::int64_t there = layout.shared ? (axis == dim ? index.shape[0] : -1) : index.shape[axis];
    if (there >= 0 && src.shape[axis] >= 0 && there != src.shape[axis]) {
      return fail(host, "index has " + std::to_string(there) + " entries on axis " + std::to_string(axis) +
                            ", src has " + std::to_string(src.shape[axis]));
    }
  }
  return 0;
}

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  Layout layout;
  if (read_layout(in, attributes, layout, host)) return 1;
  out[0].rank = in[0].rank;
  for (std::int32_t axis = 0; axis < in[0].rank; ++axis) out[0].dims[axis] = in[0].shape[axis];
  out[0].dims[layout.dim] = layout.rows < 0 ? -1 : layout.rows;
  return 0;
}

int infer_pair(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
               shipway_host* host) {
  if (infer(in, attributes, out, host)) return 1;
  out[1] = out[0];
  return 0;
}

// What no memory holds, small enough that sizes in bytes do not overflow.
constexpr std::int64_t kMostElements = std::int64_t{1} << 48;

// Finds the number of rows where it is not given, and refuses an index outside them.
int settle(const shipway_tensor* in, Layout& layout, shipway_host* host) {
  const std::int64_t* index = data<std::int64_t>(in[1]);
  const std::int64_t count = elements(in[1]);
  std::int64_t most = -1, least = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    most = std::max(most, index[i]);
    least = std::min(least, index[i]);
  }
  const bool open = layout.rows < 0;
  if (open) layout.rows = std::min(most, kMostElements) + 1;
  if (least < 0 || (!open && most >= layout.rows)) {
    return fail(host, "index " + std::to_string(least < 0 ? least : most) + " is outside the " +
                          std::to_string(layout.rows) + " rows");
  }
  const std::int64_t others = layout.outer * layout.inner;
  if (open && others > 0 && layout.rows > kMostElements / others) {
    return fail(host, "index " + std::to_string(most) + " needs more rows than memory can hold");
  }
  return 0;
}

template <class T>
T* output(const shipway_tensor& src, const Layout& layout, bool open, shipway_tensor* out,
          std::int32_t at, shipway_host* host) {
  if (!open) return data<T>(out[at]);
  std::int64_t shape[SHIPWAY_MAX_RANK];
  std::copy(src.shape, src.shape + src.rank, shape);
  shape[layout.dim] = layout.rows;
  return static_cast<T*>(host->allocate(host, at, shape, src.rank));
}

// Calls work(outer, inner begin, inner end) on pieces that share no output.
template <class Work>
int for_columns(const Layout& layout, shipway_host* host, const Work& work) {
  constexpr std::int64_t kColumns = 64;
  const std::int64_t pieces = (layout.inner + kColumns - 1) / kColumns;
  return parallel(host, layout.outer * pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t first = at % pieces * kColumns;
      work(at / pieces, first, std::min(first + kColumns, layout.inner));
    }
  });
}

template <class T>
struct Gathered {
  using W = wide_t<T>;
  const Layout& layout;
  const T* src;
  const std::int64_t* index;

  std::int64_t row(std::int64_t outer, std::int64_t k, std::int64_t column) const {
    return index[layout.shared ? k : (outer * layout.count + k) * layout.inner + column];
  }
  W value(std::int64_t outer, std::int64_t k, std::int64_t column) const {
    return W(src[(outer * layout.count + k) * layout.inner + column]);
  }
};

int add(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
        shipway_host* host, bool mean) {
  Layout layout;
  if (read_layout(in, attributes, layout, host) || settle(in, layout, host)) return 1;
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    T* to = output<T>(in[0], layout, attributes[1].i < 0, out, 0, host);
    if (to == nullptr && layout.elements() > 0) return fail(host, "there is no memory for the result");
    const Gathered<T> from{layout, data<T>(in[0]), data<std::int64_t>(in[1])};
    return for_columns(layout, host, [&](std::int64_t outer, std::int64_t begin, std::int64_t end) {
      const std::int64_t width = end - begin;
      std::vector<W> sums(static_cast<std::size_t>(layout.rows * width), W(0));
      std::vector<W> counts(mean ? sums.size() : 0, W(0));
      for (std::int64_t k = 0; k < layout.count; ++k) {
        for (std::int64_t c = begin; c < end; ++c) {
          const auto place = static_cast<std::size_t>(from.row(outer, k, c) * width + c - begin);
          sums[place] += from.value(outer, k, c);
          if (mean) counts[place] += W(1);
        }
      }
      for (std::int64_t row = 0; row < layout.rows; ++row) {
        for (std::int64_t c = begin; c < end; ++c) {
          const auto place = static_cast<std::size_t>(row * width + c - begin);
          const W total = sums[place];
          to[(outer * layout.rows + row) * layout.inner + c] =
              T(mean ? total / std::max(counts[place], W(1)) : total);
        }
      }
    });
  });
}

int add_up(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
           shipway_host* host) {
  return add(in, attributes, out, host, false);
}

int average(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  return add(in, attributes, out, host, true);
}

int largest(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  Layout layout;
  if (read_layout(in, attributes, layout, host) || settle(in, layout, host)) return 1;
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const bool open = attributes[1].i < 0;
    T* to = output<T>(in[0], layout, open, out, 0, host);
    auto* places = output<std::int64_t>(in[0], layout, open, out, 1, host);
    if ((to == nullptr || places == nullptr) && layout.elements() > 0) {
      return fail(host, "there is no memory for the result");
    }
    const Gathered<T> from{layout, data<T>(in[0]), data<std::int64_t>(in[1])};
    return for_columns(layout, host, [&](std::int64_t outer, std::int64_t begin, std::int64_t end) {
      const auto at = [&](std::int64_t row, std::int64_t c) {
        return (outer * layout.rows + row) * layout.inner + c;
      };
      for (std::int64_t row = 0; row < layout.rows; ++row) {
        for (std::int64_t c = begin; c < end; ++c) to[at(row, c)] = T(W(0)), places[at(row, c)] = layout.count;
      }
      for (std::int64_t k = 0; k < layout.count; ++k) {
        for (std::int64_t c = begin; c < end; ++c) {
          const std::int64_t place = at(from.row(outer, k, c), c);
          const W value = from.value(outer, k, c), best = W(to[place]);
          // A NaN is as in torch the largest of all.
          const bool first = places[place] == layout.count;
          if (first || value > best || (std::isnan(value) && !std::isnan(best))) {
            to[place] = T(value);
            places[place] = k;
          }
        }
      }
    });
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"dim", SHIPWAY_ATTR_INT, 0, -1, 0, nullptr, nullptr, 0},
    {"dim_size", SHIPWAY_ATTR_INT, 0, -1, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op scatter_add_op;
const shipway_op scatter_add_op = {SHIPWAY_OP_ABI, 1, "shipway", "ScatterAdd", "scatter_add", "TI", "T",
                                   kFloats, 0, 2, kAttributes, nullptr, infer, add_up};
extern const shipway_op scatter_mean_op;
const shipway_op scatter_mean_op = {SHIPWAY_OP_ABI, 1, "shipway", "ScatterMean", "scatter_mean", "TI",
                                    "T", kFloats, 0, 2, kAttributes, nullptr, infer, average};
extern const shipway_op scatter_max_op;
const shipway_op scatter_max_op = {SHIPWAY_OP_ABI, 1, "shipway", "ScatterMax", "scatter_max", "TI", "Tl",
                                   kFloats, 0, 2, kAttributes, nullptr, infer_pair, largest};

}  // namespace shipway
