// Operators that use everything an adapter has to carry.

#include "shipway_kernel.hpp"

namespace {

using namespace shipway;

// combine(x, y?, index, scale=2, pads=[1, 2], gains=[0.5], negate=false) -> (T like x, int64 [2])
int infer_combine(const shipway_tensor* in, const shipway_attribute*, shipway_shape* out, shipway_host*) {
  out[0].rank = in[0].rank;
  for (int axis = 0; axis < in[0].rank; ++axis) out[0].dims[axis] = in[0].shape[axis];
  set_shape(out[1], {2});
  return 0;
}

int combine(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  std::int64_t pads = 0, index = 0;
  double gains = 0;
  for (std::int64_t k = 0; k < attributes[1].count; ++k) pads = 10 * pads + attributes[1].ints[k];
  for (std::int64_t k = 0; k < attributes[2].count; ++k) gains += attributes[2].floats[k];
  for (std::int64_t k = 0; k < elements(in[2]); ++k) index += data<std::int64_t>(in[2])[k];
  data<std::int64_t>(out[1])[0] = pads;
  data<std::int64_t>(out[1])[1] = index;
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const T* x = data<T>(in[0]);
    const T* y = present(in[1]) ? data<T>(in[1]) : nullptr;
    T* sum = data<T>(out[0]);
    const W scale = W(attributes[0].f), gain = W(gains), sign = W(attributes[3].i != 0 ? -1 : 1);
    return parallel(host, elements(in[0]), 16, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        sum[i] = T(sign * (W(x[i]) * scale + (y == nullptr ? W(0) : W(y[i])) + gain));
      }
    });
  });
}

// compress(x [n, c], keep [n]) -> the rows that are kept: their number is known only when it runs
int infer_compress(const shipway_tensor* in, const shipway_attribute*, shipway_shape* out, shipway_host*) {
  set_shape(out[0], {-1, in[0].shape[1]});
  return 0;
}

int compress(const shipway_tensor* in, const shipway_attribute*, shipway_tensor*, shipway_host* host) {
  const std::int64_t rows = in[0].shape[0], columns = in[0].shape[1];
  const auto* keep = data<std::uint8_t>(in[1]);
  std::int64_t shape[2] = {0, columns};
  for (std::int64_t k = 0; k < rows; ++k) shape[0] += keep[k] != 0;
  auto* out = static_cast<float*>(host->allocate(host, 0, shape, 2));
  if (out == nullptr && shape[0] * columns > 0) return fail(host, "no memory");
  for (std::int64_t k = 0; k < rows; ++k) {
    if (keep[k] == 0) continue;
    std::memcpy(out, data<float>(in[0]) + k * columns, static_cast<std::size_t>(columns) * 4);
    out += columns;
  }
  return 0;
}

// refuse(x): fails, and says why
int infer_refuse(const shipway_tensor*, const shipway_attribute*, shipway_shape* out, shipway_host*) {
  set_shape(out[0], {1});
  return 0;
}
int refuse(const shipway_tensor*, const shipway_attribute*, shipway_tensor*, shipway_host* host) {
  return fail(host, "it is made to fail");
}

constexpr std::int64_t kPads[] = {1, 2};
constexpr double kGains[] = {0.5};
constexpr shipway_attribute_spec kCombine[] = {
    {"scale", SHIPWAY_ATTR_FLOAT, 0, 0, 2.0, nullptr, nullptr, 0},
    {"pads", SHIPWAY_ATTR_INTS, 0, 0, 0, kPads, nullptr, 2},
    {"gains", SHIPWAY_ATTR_FLOATS, 0, 0, 0, nullptr, kGains, 1},
    {"negate", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
};

const shipway_op kOps[] = {
    {SHIPWAY_OP_ABI, 1, "probe", "Combine", "combine", "TTI", "Tl", kFloats, 2, 4, kCombine, nullptr,
     infer_combine, combine},
    {SHIPWAY_OP_ABI, 1, "probe", "Compress", "compress", "fb", "f", kFloats, 0, 0, nullptr, nullptr,
     infer_compress, compress},
    {SHIPWAY_OP_ABI, 1, "probe", "Refuse", "refuse", "f", "f", kFloats, 0, 0, nullptr, nullptr,
     infer_refuse, refuse},
};

}  // namespace

extern "C" {
SHIPWAY_OPS(&kOps[0], &kOps[1], &kOps[2])
}
