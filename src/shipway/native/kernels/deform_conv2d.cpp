// Deformable convolution, with a mask (version 2) or without: every tap of the filter reads where an
// offset tells it to, bilinearly, and zero outside.
//
// Source: Dai et al. (arXiv 1703.06211), Zhu et al. (arXiv 1811.11168); layouts of mmcv and
// torchvision. This file checks, lays out input and weights anew and hands out the work.

#include "deform_conv2d.hpp"

#include <memory>
#include <new>
#include <type_traits>

extern "C" int shipway_isa_level();

namespace shipway {
namespace dcn {
namespace {

constexpr std::int64_t kPixels = 64;  // laid out anew in one piece of work

// [batch, channels, pixels] to [batch, pixels, channels], widened: a point then reads its channels
// one after another.
template <class T>
int pack_input(const Problem& problem, const T* from, wide_t<T>* to, shipway_host* host) {
  const std::int64_t pixels = problem.pixels(), channels = problem.channels;
  const std::int64_t pieces = (pixels + kPixels - 1) / kPixels;
  return parallel(host, problem.batch * pieces, 4, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t image = piece / pieces * channels * pixels;
      const std::int64_t first = piece % pieces * kPixels;
      for (std::int64_t c = 0; c < channels; ++c) {
        for (std::int64_t p = first; p < std::min(first + kPixels, pixels); ++p) {
          to[image + p * channels + c] = static_cast<wide_t<T>>(from[image + c * pixels + p]);
        }
      }
    }
  });
}

// [filters, channels of a group, taps] to [groups, panels, taps, channels of a group, kPanel].
template <class T>
int pack_weight(const Problem& problem, const T* from, wide_t<T>* to, shipway_host* host) {
  const std::int64_t channels = problem.group_channels(), taps = problem.taps();
  const std::int64_t panels = problem.group_panels(), filters = problem.group_filters();
  return parallel(host, problem.groups * panels, 1, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; ++at) {
      wide_t<T>* panel = to + at * taps * channels * kPanel;
      const std::int64_t first = at % panels * kPanel;
      const std::int64_t count = std::min(kPanel, filters - first);
      std::fill(panel, panel + taps * channels * kPanel, wide_t<T>(0));
      for (std::int64_t k = 0; k < count; ++k) {
        const T* filter = from + (at / panels * filters + first + k) * channels * taps;
        for (std::int64_t i = 0; i < channels * taps; ++i) {
          panel[(i % taps * channels + i / taps) * kPanel + k] = static_cast<wide_t<T>>(filter[i]);
        }
      }
    }
  });
}

template <class T>
void run_tile(const Problem& problem, const Operands& operands, const Tile& tile,
              Scratch<wide_t<T>>& scratch) {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<wide_t<T>, float>) {
    if (shipway_isa_level() > 0) return run_avx2<T>(problem, operands, tile, scratch);
  }
#endif
  run_portable<T>(problem, operands, tile, scratch);
}

template <class T>
int run(const Problem& problem, Operands operands, shipway_host* host) {
  using W = wide_t<T>;
  const auto elements = static_cast<std::size_t>(problem.batch * problem.channels * problem.pixels());
  const std::unique_ptr<W[]> input(new W[elements]);
  const std::unique_ptr<W[]> weight(new W[static_cast<std::size_t>(problem.packed_elements())]);
  if (pack_input(problem, static_cast<const T*>(operands.input), input.get(), host)) return 1;
  if (pack_weight(problem, static_cast<const T*>(operands.weight), weight.get(), host)) return 1;
  operands.input = input.get();
  operands.weight = weight.get();
  const std::int64_t places = problem.places(), tiles = (places + kTile - 1) / kTile;
  const std::int64_t each = (places + tiles - 1) / tiles;
  return parallel(host, problem.batch * tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    Scratch<W> scratch(problem);
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t first = at % tiles * each;
      const Tile tile{at / tiles, first, std::min(first + each, places)};
      if (tile.begin < tile.end) run_tile<T>(problem, operands, tile, scratch);
    }
  });
}

}  // namespace
}  // namespace dcn

namespace {

enum Input { kInput, kOffset, kWeight, kMask, kBias };
enum Attribute { kStride, kPadding, kDilation, kGroups, kDeformGroups };

constexpr const char* kNames[] = {"input", "offset", "weight", "mask", "bias"};
constexpr std::int64_t kLargest = std::int64_t{1} << 31;  // of an attribute: nothing overflows below

// Whether an input has a shape, as far as both are known.
int check_shape(shipway_host* host, const shipway_tensor* in, Input input,
                std::initializer_list<std::int64_t> wanted) {
  const shipway_tensor& tensor = in[input];
  const auto rank = static_cast<std::int32_t>(wanted.size());
  bool fits = tensor.rank == rank;
  for (std::int32_t axis = 0; fits && axis < rank; ++axis) {
    const std::int64_t size = wanted.begin()[axis];
    fits = size < 0 || tensor.shape[axis] < 0 || tensor.shape[axis] == size;
  }
  if (fits) return 0;
  return fail(host, std::string(kNames[input]) + " has shape " +
                        shape_text(tensor.shape, tensor.rank) + ", but must be " +
                        shape_text(wanted.begin(), rank));
}

int check_attributes(const shipway_attribute* attributes, shipway_host* host) {
  for (const Attribute at : {kStride, kPadding, kDilation}) {
    const std::int64_t least = at == kPadding ? 0 : 1;
    const shipway_attribute& item = attributes[at];
    const bool fits = item.count == 2 && item.ints[0] >= least && item.ints[1] >= least &&
                      item.ints[0] < kLargest && item.ints[1] < kLargest;
    if (fits) continue;
    return fail(host, std::string(item.name) + " is " + shape_text(item.ints, item.count) +
                          ", but must be two numbers from " + std::to_string(least) + " on");
  }
  if (attributes[kGroups].i > 0 && attributes[kDeformGroups].i > 0) return 0;
  return fail(host, "groups is " + std::to_string(attributes[kGroups].i) +
                        " and deform_groups is " + std::to_string(attributes[kDeformGroups].i) +
                        ", but both must be 1 or more");
}

// Checks that filters and channels are a multiple of the groups, as far as they are known.
int check_groups(const shipway_tensor* in, const shipway_attribute* attributes, shipway_host* host) {
  const std::int64_t channels = in[kInput].shape[1], filters = in[kWeight].shape[0];
  const std::int64_t groups = attributes[kGroups].i, deform_groups = attributes[kDeformGroups].i;
  const bool fits = (channels < 0 || (channels % groups == 0 && channels % deform_groups == 0)) &&
                    (filters < 0 || filters % groups == 0);
  if (fits) return 0;
  return fail(host, std::to_string(channels) + " channels and " + std::to_string(filters) +
                        " filters do not divide into groups=" + std::to_string(groups) +
                        " and deform_groups=" + std::to_string(deform_groups));
}

// The size of the output on an axis, -1 while it is unknown.
std::int64_t out_size(const shipway_tensor* in, const shipway_attribute* attributes, int axis) {
  const std::int64_t size = in[kInput].shape[2 + axis], taps = in[kWeight].shape[2 + axis];
  if (size < 0 || taps < 0) return -1;
  const std::int64_t room = size + 2 * attributes[kPadding].ints[axis] -
                            attributes[kDilation].ints[axis] * (taps - 1) - 1;
  return room < 0 ? 0 : room / attributes[kStride].ints[axis] + 1;
}

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  if (check_attributes(attributes, host)) return 1;
  if (check_shape(host, in, kInput, {-1, -1, -1, -1})) return 1;
  if (check_shape(host, in, kWeight, {-1, -1, -1, -1})) return 1;
  const std::int64_t* input = in[kInput].shape;
  const std::int64_t* weight = in[kWeight].shape;
  if (weight[2] == 0 || weight[3] == 0) return fail(host, "weight has no taps");
  if (check_groups(in, attributes, host)) return 1;
  const std::int64_t groups = attributes[kGroups].i, deform_groups = attributes[kDeformGroups].i;
  const std::int64_t channels = input[1] < 0 ? -1 : input[1] / groups;
  if (check_shape(host, in, kWeight, {-1, channels, -1, -1})) return 1;
  const std::int64_t height = out_size(in, attributes, 0), width = out_size(in, attributes, 1);
  const std::int64_t reads = product(deform_groups, product(weight[2], weight[3]));
  if (check_shape(host, in, kOffset, {input[0], product(2, reads), height, width})) return 1;
  if (present(in[kMask]) && check_shape(host, in, kMask, {input[0], reads, height, width})) return 1;
  if (present(in[kBias]) && check_shape(host, in, kBias, {weight[0]})) return 1;
  set_shape(out[0], {input[0], weight[0], in[kOffset].shape[2], in[kOffset].shape[3]});
  return 0;
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  if (elements(out[0]) == 0) return 0;
  const std::int64_t* input = in[kInput].shape;
  const std::int64_t* weight = in[kWeight].shape;
  dcn::Problem problem{input[0], input[1], input[2], input[3], weight[0], weight[2], weight[3],
                       out[0].shape[2], out[0].shape[3], attributes[kGroups].i,
                       attributes[kDeformGroups].i, {}, {}, {}, in[kInput].dtype};
  std::copy_n(attributes[kStride].ints, 2, problem.stride);
  std::copy_n(attributes[kPadding].ints, 2, problem.padding);
  std::copy_n(attributes[kDilation].ints, 2, problem.dilation);
  const dcn::Operands operands{in[kInput].data, in[kWeight].data, in[kOffset].data,
                               present(in[kMask]) ? in[kMask].data : nullptr,
                               present(in[kBias]) ? in[kBias].data : nullptr, out[0].data};
  try {
    return with_float(problem.dtype, host, [&](auto tag) {
      return dcn::run<decltype(tag)>(problem, operands, host);
    });
  } catch (const std::bad_alloc&) {
    return fail(host, "DeformConv2d ran out of memory");
  }
}

constexpr std::int64_t kOnes[] = {1, 1}, kZeros[] = {0, 0};
constexpr shipway_attribute_spec kAttributes[] = {
    {"stride", SHIPWAY_ATTR_INTS, 0, 0, 0, kOnes, nullptr, 2},
    {"padding", SHIPWAY_ATTR_INTS, 0, 0, 0, kZeros, nullptr, 2},
    {"dilation", SHIPWAY_ATTR_INTS, 0, 0, 0, kOnes, nullptr, 2},
    {"groups", SHIPWAY_ATTR_INT, 0, 1, 0, nullptr, nullptr, 0},
    {"deform_groups", SHIPWAY_ATTR_INT, 0, 1, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op deform_conv2d_op;
const shipway_op deform_conv2d_op = {
    SHIPWAY_OP_ABI, 1, "shipway", "DeformConv2d", "deform_conv2d", "TTTTT", "T", kFloats,
    1u << kMask | 1u << kBias, 5, kAttributes, nullptr, infer, compute};

}  // namespace shipway
