// Deformable convolution, plain and modulated: a convolution whose taps are moved by an offset each.
//
// Source: Dai et al. 2017, Zhu et al. 2019 (DCNv2); layouts as in mmcv and torchvision. Columns of a
// few positions are gathered, then multiplied with the weights while they are in the cache.

#include <algorithm>
#include <vector>

#include "bilinear.hpp"
#include "shipway_kernel.hpp"
#include "shipway_vector.hpp"

namespace shipway {
namespace {

constexpr std::int64_t kTile = 64;  // positions gathered together
enum Input { kInput, kOffset, kWeight, kMask, kBias };

struct Size {
  std::int64_t batch, channels, height, width, out_channels, kernel_h, kernel_w, out_h, out_w;
  std::int64_t stride[2], padding[2], dilation[2], groups, offset_groups;

  std::int64_t taps() const { return kernel_h * kernel_w; }
  std::int64_t positions() const { return out_h * out_w; }
};

std::int64_t out_size(std::int64_t size, std::int64_t kernel, std::int64_t stride,
                      std::int64_t padding, std::int64_t dilation) {
  if (size < 0 || kernel < 0) return -1;
  const std::int64_t span = size + 2 * padding - dilation * (kernel - 1) - 1;
  return span < 0 ? 0 : span / stride + 1;
}

int read_pair(const shipway_attribute& attribute, std::int64_t least, std::int64_t* pair,
              shipway_host* host) {
  if (attribute.count != 2 || attribute.ints[0] < least || attribute.ints[1] < least) {
    return fail(host, std::string(attribute.name) + " must be two numbers of at least " +
                          std::to_string(least));
  }
  std::copy(attribute.ints, attribute.ints + 2, pair);
  return 0;
}

int differ(shipway_host* host, const char* what, std::int64_t found, std::int64_t wanted) {
  if (found < 0 || wanted < 0 || found == wanted) return 0;
  return fail(host, std::string(what) + " is " + std::to_string(found) + ", but must be " +
                        std::to_string(wanted));
}

int read_size(const shipway_tensor* in, const shipway_attribute* attributes, Size& size,
              shipway_host* host) {
  if (in[kInput].rank != 4 || in[kOffset].rank != 4 || in[kWeight].rank != 4) {
    return fail(host, "input, offset and weight must have rank 4");
  }
  if (read_pair(attributes[0], 1, size.stride, host) || read_pair(attributes[1], 0, size.padding, host) ||
      read_pair(attributes[2], 1, size.dilation, host)) {
    return 1;
  }
  size.groups = attributes[3].i;
  size.offset_groups = attributes[4].i;
  const std::int64_t *x = in[kInput].shape, *w = in[kWeight].shape, *o = in[kOffset].shape;
  size.batch = x[0], size.channels = x[1], size.height = x[2], size.width = x[3];
  size.out_channels = w[0], size.kernel_h = w[2], size.kernel_w = w[3];
  if (size.groups < 1 || size.offset_groups < 1) return fail(host, "groups must be at least 1");
  if (size.kernel_h == 0 || size.kernel_w == 0) return fail(host, "weight has an empty kernel");
  size.out_h = out_size(size.height, size.kernel_h, size.stride[0], size.padding[0], size.dilation[0]);
  size.out_w = out_size(size.width, size.kernel_w, size.stride[1], size.padding[1], size.dilation[1]);
  if (w[1] >= 0 && differ(host, "channels of input", size.channels, w[1] * size.groups)) return 1;
  if (size.channels >= 0 && size.channels % size.offset_groups != 0) {
    return fail(host, "the channels of input do not divide into deform_groups");
  }
  if (size.out_channels >= 0 && size.out_channels % size.groups != 0) {
    return fail(host, "the output channels do not divide into groups");
  }
  const std::int64_t taps = product(size.kernel_h, size.kernel_w);
  const std::int64_t masks = product(size.offset_groups, taps), moves = product(2, masks);
  if (differ(host, "batch of offset", o[0], size.batch) || differ(host, "axis 1 of offset", o[1], moves) ||
      differ(host, "height of offset", o[2], size.out_h) || differ(host, "width of offset", o[3], size.out_w)) {
    return 1;
  }
  if (present(in[kMask])) {
    const std::int64_t* m = in[kMask].shape;
    if (in[kMask].rank != 4) return fail(host, "mask must have rank 4");
    if (differ(host, "batch of mask", m[0], size.batch) || differ(host, "axis 1 of mask", m[1], masks) ||
        differ(host, "height of mask", m[2], size.out_h) || differ(host, "width of mask", m[3], size.out_w)) {
      return 1;
    }
  }
  if (present(in[kBias]) && (in[kBias].rank != 1 || differ(host, "size of bias", in[kBias].shape[0], size.out_channels))) {
    return fail(host, "bias must have one number an output channel");
  }
  return 0;
}

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  Size size{};
  if (read_size(in, attributes, size, host)) return 1;
  const std::int64_t* places = in[kOffset].shape;
  set_shape(out[0], {size.batch, size.out_channels, size.out_h < 0 ? places[2] : size.out_h,
                     size.out_w < 0 ? places[3] : size.out_w});
  return 0;
}

// out[m][kTile] += weight[m][k] * columns[k][kTile], four rows of the output at a time.
template <class W>
SHIPWAY_INLINED void multiply(const W* __restrict weight, const W* __restrict columns,
                              std::int64_t rows, std::int64_t depth, W* __restrict out) {
  constexpr std::int64_t kPart = 16;
  for (std::int64_t m = 0; m < rows; m += 4) {
    const std::int64_t here = std::min<std::int64_t>(4, rows - m);
    const W* w[4];
    for (int r = 0; r < 4; ++r) w[r] = weight + (m + std::min<std::int64_t>(r, here - 1)) * depth;
    for (std::int64_t part = 0; part < kTile; part += kPart) {
      W sums[4][kPart] = {};
      for (std::int64_t k = 0; k < depth; ++k) {
        const W* column = columns + k * kTile + part;
        const W w0 = w[0][k], w1 = w[1][k], w2 = w[2][k], w3 = w[3][k];
        for (std::int64_t i = 0; i < kPart; ++i) {
          sums[0][i] += w0 * column[i];
          sums[1][i] += w1 * column[i];
          sums[2][i] += w2 * column[i];
          sums[3][i] += w3 * column[i];
        }
      }
      for (std::int64_t r = 0; r < here; ++r) {
        for (std::int64_t i = 0; i < kPart; ++i) out[(m + r) * kTile + part + i] = sums[r][i];
      }
    }
  }
}

template <class T>
struct Convolution {
  using W = wide_t<T>;
  const Size& size;
  const T *input, *offset, *mask, *bias;
  const W* weight;
  T* output;

  std::int64_t tiles() const { return (size.positions() + kTile - 1) / kTile; }

  void operator()(std::int64_t begin, std::int64_t end) const {
    const std::int64_t depth = size.channels / size.groups * size.taps();
    std::vector<W> columns(static_cast<std::size_t>(depth * kTile));
    std::vector<W> sums(static_cast<std::size_t>(size.out_channels / size.groups * kTile));
    for (std::int64_t at = begin; at < end; ++at) {
      for (std::int64_t group = 0; group < size.groups; ++group) {
        run(at / tiles(), at % tiles() * kTile, group, columns.data(), sums.data());
      }
    }
  }

  void run(std::int64_t n, std::int64_t first, std::int64_t group, W* columns, W* sums) const {
    const std::int64_t channels = size.channels / size.groups, rows = size.out_channels / size.groups;
    const std::int64_t count = std::min(kTile, size.positions() - first);
    const std::int64_t depth = channels * size.taps();
    std::int64_t done = 0;
    while (done < channels) {  // channels of one offset group share their places
      const std::int64_t channel = group * channels + done;
      const std::int64_t each = size.channels / size.offset_groups;
      const std::int64_t moved = channel / each;
      const std::int64_t together = std::min((moved + 1) * each - channel, channels - done);
      gather(n, first, count, channel, together, moved, columns + done * size.taps() * kTile);
      done += together;
    }
    const W* rows_of_weight = weight + group * rows * depth;
    with_vectors([&]() __attribute__((always_inline)) { multiply(rows_of_weight, columns, rows, depth, sums); });
    for (std::int64_t m = 0; m < rows; ++m) {
      const std::int64_t channel = group * rows + m;
      const W shift = bias == nullptr ? W(0) : W(bias[channel]);
      T* to = output + (n * size.out_channels + channel) * size.positions() + first;
      for (std::int64_t i = 0; i < count; ++i) to[i] = T(sums[m * kTile + i] + shift);
    }
  }

  void gather(std::int64_t n, std::int64_t first, std::int64_t count, std::int64_t channel,
              std::int64_t together, std::int64_t moved, W* columns) const {
    const std::int64_t plane = size.height * size.width, positions = size.positions(), taps = size.taps();
    const T* pixels = input + (n * size.channels + channel) * plane;
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      const std::int64_t entry = (n * size.offset_groups + moved) * taps + tap;
      const T* move = offset + 2 * entry * positions + first;
      const T* factor = mask == nullptr ? nullptr : mask + entry * positions + first;
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t row = (first + i) / size.out_w, column = (first + i) % size.out_w;
        const W y = W(row * size.stride[0] - size.padding[0] + tap / size.kernel_w * size.dilation[0]) +
                    W(move[i]);
        const W x = W(column * size.stride[1] - size.padding[1] + tap % size.kernel_w * size.dilation[1]) +
                    W(move[positions + i]);
        const Corners<W> corners(y, x, size.height, size.width);
        const W share = factor == nullptr ? W(1) : W(factor[i]);
        for (std::int64_t c = 0; c < together; ++c) {
          columns[(c * taps + tap) * kTile + i] = corners.read(pixels + c * plane) * share;
        }
      }
      for (std::int64_t c = 0; c < together; ++c) {
        W* row = columns + (c * taps + tap) * kTile;
        std::fill(row + count, row + kTile, W(0));
      }
    }
  }
};

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  Size size{};
  if (read_size(in, attributes, size, host)) return 1;
  if (elements(out[0]) == 0) return 0;
  return with_float(in[kInput].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const T* narrow = data<T>(in[kWeight]);
    std::vector<W> weight(static_cast<std::size_t>(elements(in[kWeight])));
    for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = W(narrow[i]);
    const Convolution<T> run{size,
                             data<T>(in[kInput]),
                             data<T>(in[kOffset]),
                             present(in[kMask]) ? data<T>(in[kMask]) : nullptr,
                             present(in[kBias]) ? data<T>(in[kBias]) : nullptr,
                             weight.data(),
                             data<T>(out[0])};
    return parallel(host, size.batch * run.tiles(), 1, run);
  });
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
const shipway_op deform_conv2d_op = {SHIPWAY_OP_ABI, 1, "shipway", "DeformConv2d", "deform_conv2d",
                                     "TTTTT", "T", kFloats, 0b11000, 5, kAttributes, nullptr, infer,
                                     compute};

}  // namespace shipway
