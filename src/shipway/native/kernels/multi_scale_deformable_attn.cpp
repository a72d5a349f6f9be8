// Multi-scale deformable attention: for each query and head, the weighted sum of points sampled
// bilinearly from feature maps of several sizes (align_corners=False, zero outside).
//
// Source: Zhu et al., Deformable DETR (arXiv 2010.04159); argument order and layouts of mmcv's
// multi_scale_deformable_attn. This file checks, plans and hands out the work.

#include "multi_scale_deformable_attn.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

extern "C" int shipway_isa_level();

namespace shipway {
extern const shipway_op multi_scale_deformable_attn_op;

namespace msda {
namespace {

constexpr std::int64_t kPiece = 512;    // pixels copied in one piece of work
constexpr std::int64_t kPackAhead = 8;  // pixels between a prefetch and its copy

SampleTable make_table(const Problem& problem, const Layout& layout) {
  const std::int64_t each = problem.samples(), length = table_length(problem, layout);
  SampleTable table;
  for (std::int64_t i = 0; i < length; ++i) {
    const std::int64_t level = i % each / problem.points, head = i / each % layout.head_count;
    const std::int64_t height = problem.sizes[2 * level], width = problem.sizes[2 * level + 1];
    const bool empty = height == 0 || width == 0;
    const float nothing = std::numeric_limits<float>::quiet_NaN();
    table.width.push_back(empty ? nothing : static_cast<float>(width));
    table.height.push_back(empty ? nothing : static_cast<float>(height));
    table.right.push_back(empty ? 0 : static_cast<std::int32_t>(width - 1));
    table.bottom.push_back(empty ? 0 : static_cast<std::int32_t>(height - 1));
    table.row_stride.push_back(static_cast<std::int32_t>(width * layout.pixel_stride));
    table.origin.push_back(static_cast<std::int32_t>(
        problem.starts[level] * layout.pixel_stride + head * layout.head_stride));
  }
  return table;
}

// Pages that go back when the call ends, large ones where the system gives them.
class Plane {
 public:
  explicit Plane(std::int64_t size_bytes) : size_(static_cast<std::size_t>(size_bytes) + kHuge) {
    pages_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages_ == MAP_FAILED) return;
    const auto address = reinterpret_cast<std::uintptr_t>(pages_);
    data_ = reinterpret_cast<char*>((address + kHuge - 1) / kHuge * kHuge);
#if defined(MADV_HUGEPAGE)
    madvise(data_, size_ - static_cast<std::size_t>(data_ - static_cast<char*>(pages_)),
            MADV_HUGEPAGE);
#endif
  }
  ~Plane() {
    if (pages_ != MAP_FAILED) munmap(pages_, size_);
  }
  Plane(const Plane&) = delete;
  Plane& operator=(const Plane&) = delete;

  char* data() const { return data_; }

 private:
  static constexpr std::size_t kHuge = std::size_t{2} << 20;
  std::size_t size_;
  void* pages_;
  char* data_ = nullptr;
};

void run_vector([[maybe_unused]] const Problem& problem, [[maybe_unused]] const Layout& layout,
                [[maybe_unused]] const SampleTable& table, [[maybe_unused]] const Plan& plan,
                [[maybe_unused]] const Range& range) {
#if defined(__x86_64__)
  if (plan.isa >= 2) return run_avx512(problem, layout, table, range);
  run_avx2(problem, layout, table, range);
#endif
}

// Copies pixels [begin, end) of the packed heads. Known sizes spare a call for every pixel.
template <std::int64_t kBytes>
void pack_rows(const char* from, std::int64_t step_bytes, char* to, std::int64_t begin,
               std::int64_t end) {
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    __builtin_prefetch(from + (pixel + kPackAhead) * step_bytes);
    if (kBytes > 64) __builtin_prefetch(from + (pixel + kPackAhead) * step_bytes + 64);
    std::memcpy(to + pixel * kBytes, from + pixel * step_bytes, kBytes);
  }
}

void pack(const char* from, std::int64_t step_bytes, char* to, std::int64_t row_bytes,
          std::int64_t begin, std::int64_t end) {
  switch (row_bytes) {
    case 32: return pack_rows<32>(from, step_bytes, to, begin, end);
    case 64: return pack_rows<64>(from, step_bytes, to, begin, end);
    case 128: return pack_rows<128>(from, step_bytes, to, begin, end);
    case 256: return pack_rows<256>(from, step_bytes, to, begin, end);
    default:
      for (std::int64_t pixel = begin; pixel < end; ++pixel) {
        std::memcpy(to + pixel * row_bytes, from + pixel * step_bytes,
                    static_cast<std::size_t>(row_bytes));
      }
  }
}

// Splits the queries of one batch entry so that no thread waits long for the last piece.
std::int64_t queries_per_piece(std::int64_t queries, std::int64_t pieces) {
  return std::clamp<std::int64_t>(queries / std::max<std::int64_t>(pieces, 1), 8, 256);
}

int run_in_place(const Problem& problem, const Plan& plan, shipway_host* host) {
  const std::int64_t batch_elements = problem.pixels * problem.heads * problem.channels;
  const std::int64_t threads = host == nullptr ? 1 : host->threads;
  const std::int64_t piece =
      queries_per_piece(problem.queries, 8 * threads / problem.batch + 1);
  const std::int64_t pieces = (problem.queries + piece - 1) / piece;
  Layout first{problem.value, problem.heads * problem.channels, problem.channels, 0, problem.heads};
  const SampleTable table = plan.isa > 0 ? make_table(problem, first) : SampleTable{};
  return parallel(host, problem.batch * pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t query = i % pieces * piece;
      const Range range{i / pieces, query, std::min(query + piece, problem.queries)};
      if (plan.isa == 0) {
        run_portable(problem, range);
        continue;
      }
      Layout layout = first;
      layout.value = static_cast<const char*>(problem.value) +
                     range.batch * batch_elements * element_bytes(problem);
      run_vector(problem, layout, table, plan, range);
    }
  });
}

// A few heads at a time: the gather of one group and the copy of the next share the threads, so the
// copy's memory traffic runs beside the gather's arithmetic.
class Packing {
 public:
  Packing(const Problem& problem, const Plan& plan, std::int64_t piece)
      : problem_(problem), plan_(plan), piece_(piece), group_(plan.packed_heads),
        row_bytes_(group_ * problem.channels * element_bytes(problem)),
        plane_bytes_((problem.pixels * row_bytes_ + 63) / 64 * 64), planes_(2 * plane_bytes_),
        table_(make_table(problem, layout(0))) {}

  bool ready() const { return planes_.data() != nullptr; }
  std::int64_t turns() const { return problem_.batch * groups(); }
  std::int64_t copies() const { return (problem_.pixels + kPiece - 1) / kPiece; }
  std::int64_t gathers() const { return (problem_.queries + piece_ - 1) / piece_; }

  void copy(std::int64_t turn, std::int64_t i) const {
    const std::int64_t pixel = turn / groups() * problem_.pixels;
    const char* from = static_cast<const char*>(problem_.value) +
                       (pixel * groups() + turn % groups()) * row_bytes_;
    pack(from, groups() * row_bytes_, planes_.data() + turn % 2 * plane_bytes_, row_bytes_,
         i * kPiece, std::min((i + 1) * kPiece, problem_.pixels));
  }

  void gather(std::int64_t turn, std::int64_t i) const {
    run_vector(problem_, layout(turn), table_, plan_,
               {turn / groups(), i * piece_, std::min((i + 1) * piece_, problem_.queries)});
  }

  // Piece i of gathers() and copies() together, the copies spread evenly among the gathers.
  void work(std::int64_t turn, std::int64_t i, std::int64_t copy_count, std::int64_t all) const {
    const std::int64_t copied = i * copy_count / all;
    if ((i + 1) * copy_count / all > copied) return copy(turn, copied);
    gather(turn - 1, i - copied);
  }

 private:
  std::int64_t groups() const { return problem_.heads / group_; }
  Layout layout(std::int64_t turn) const {
    return {planes_.data() + turn % 2 * plane_bytes_, group_ * problem_.channels, problem_.channels,
            turn % groups() * group_, group_};
  }

  const Problem& problem_;
  const Plan& plan_;
  std::int64_t piece_, group_, row_bytes_, plane_bytes_;
  Plane planes_;
  SampleTable table_;
};

int run_packed(const Problem& problem, const Plan& plan, shipway_host* host) {
  const int threads = host == nullptr ? 1 : host->threads;
  const Packing packing(problem, plan, queries_per_piece(problem.queries, 8 * threads));
  if (!packing.ready()) return fail(host, "MultiScaleDeformableAttn ran out of memory");
  int failed = 0;
  for (std::int64_t turn = 0; turn <= packing.turns() && !failed; ++turn) {
    const std::int64_t copies = turn < packing.turns() ? packing.copies() : 0;
    const std::int64_t all = copies + (turn > 0 ? packing.gathers() : 0);
    failed = parallel(host, all, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) packing.work(turn, i, copies, all);
    });
  }
  return failed;
}

// Whether neighbouring queries read far apart: then no cache near the core keeps what they share.
template <class T>
bool scattered(const Problem& problem) {
  const std::int64_t probes = 64, near_pixels = 16;
  const std::int64_t step = problem.heads * problem.samples() * 2;
  std::int64_t near = 0;
  for (std::int64_t i = 0; i < probes; ++i) {
    const std::int64_t query =
        i % problem.batch * problem.queries + i * (problem.queries - 1) / probes;
    const std::int64_t sample = i % problem.samples(), level = sample / problem.points;
    const T* here = static_cast<const T*>(problem.locations) + query * step +
                    (i % problem.heads * problem.samples() + sample) * 2;
    const auto distance = [&](int axis) {
      const double step_size = static_cast<double>(static_cast<wide_t<T>>(here[step + axis])) -
                               static_cast<double>(static_cast<wide_t<T>>(here[axis]));
      return std::abs(step_size) * static_cast<double>(problem.sizes[2 * level + 1 - axis]);
    };
    near += distance(0) <= near_pixels && distance(1) <= near_pixels;
  }
  return near < probes / 2;
}

// How many heads to copy together, 0 where reading in place is at least as fast. Copying pays where
// many scattered reads share a value too large for the caches: each head is then dense, on large
// pages, and stays in the last cache while its turn lasts. Limits measured on a Zen 3 server.
std::int64_t choose_packed_heads(const Problem& problem, int threads) {
  constexpr std::int64_t kWorthBytes = 8 << 20, kPlaneBytes = 6 << 20, kLargestBytes = 16 << 20;
  constexpr std::int64_t kThreadSamples = 4096;  // what a thread must do before all meet again
  const std::int64_t head_bytes = problem.pixels * problem.channels * element_bytes(problem);
  const std::int64_t turn_samples = problem.queries * problem.samples();
  if (problem.heads * head_bytes < kWorthBytes || head_bytes > kLargestBytes) return 0;
  if (turn_samples < problem.pixels || turn_samples < kThreadSamples * threads) return 0;
  std::int64_t packed = 1;
  for (std::int64_t heads = 2; heads <= problem.heads; ++heads) {
    if (problem.heads % heads == 0 && heads * head_bytes <= kPlaneBytes) packed = heads;
  }
  bool far = false;
  with_float(problem.dtype, nullptr, [&](auto tag) {
    far = scattered<decltype(tag)>(problem);
    return 0;
  });
  return far ? packed : 0;
}

}  // namespace

Plan choose_plan(const Problem& problem, const shipway_host* host) {
  const bool fits = problem.pixels * problem.heads * problem.channels <=
                    std::numeric_limits<std::int32_t>::max();
  if (problem.dtype == SHIPWAY_FLOAT64 || !fits || shipway_isa_level() == 0) return {0, 0};
  return {shipway_isa_level(), choose_packed_heads(problem, host == nullptr ? 1 : host->threads)};
}

int run(const Problem& problem, const Plan& plan, shipway_host* host) {
  if (plan.packed_heads > 0 && plan.isa > 0) return run_packed(problem, plan, host);
  return run_in_place(problem, plan, host);
}

}  // namespace msda

namespace {

enum Input { kValue, kSizes, kStarts, kLocations, kWeights };

constexpr const char* kInputNames[] = {"value", "spatial_shapes", "level_start_index",
                                       "sampling_locations", "attention_weights"};

int fail_input(shipway_host* host, Input input, const shipway_tensor* in,
               const std::string& wanted) {
  return fail(host, std::string(kInputNames[input]) + " has shape " +
                        shape_text(in[input]) + ", but must be " + wanted);
}

// A size that several inputs share; -1 while none of them knows it.
struct Shared {
  const char* name;
  std::int64_t size = -1;
  Input from = kValue;
};

int agree(shipway_host* host, Shared& shared, const shipway_tensor* in, Input input, int axis) {
  const std::int64_t size = in[input].shape[axis];
  if (size < 0) return 0;
  if (shared.size < 0) {
    shared.size = size;
    shared.from = input;
  }
  if (size == shared.size) return 0;
  return fail(host, std::string(kInputNames[input]) + " " +
                        shape_text(in[input]) + " has " + std::to_string(size) + " " + shared.name +
                        " (axis " + std::to_string(axis) + "), but " + kInputNames[shared.from] +
                        " " + shape_text(in[shared.from]) + " has " + std::to_string(shared.size));
}

int check_ranks(const shipway_tensor* in, shipway_host* host) {
  if (in[kValue].rank != 4) return fail_input(host, kValue, in, "[batch, pixels, heads, channels]");
  if (in[kSizes].rank != 2 || (in[kSizes].shape[1] >= 0 && in[kSizes].shape[1] != 2)) {
    return fail_input(host, kSizes, in, "[levels, 2], a height and a width for each level");
  }
  if (in[kStarts].rank != 1) return fail_input(host, kStarts, in, "[levels]");
  if (in[kLocations].rank != 6 || (in[kLocations].shape[5] >= 0 && in[kLocations].shape[5] != 2)) {
    return fail_input(host, kLocations, in, "[batch, queries, heads, levels, points, 2]");
  }
  if (in[kWeights].rank != 5) {
    return fail_input(host, kWeights, in, "[batch, queries, heads, levels, points]");
  }
  return 0;
}

int infer(const shipway_tensor* in, const shipway_attribute*, shipway_shape* out,
          shipway_host* host) {
  if (check_ranks(in, host)) return 1;
  Shared batch{"batch entries"}, queries{"queries"}, heads{"heads"}, levels{"levels"};
  Shared points{"points"};
  const bool fits =
      !agree(host, batch, in, kValue, 0) && !agree(host, batch, in, kLocations, 0) &&
      !agree(host, batch, in, kWeights, 0) && !agree(host, queries, in, kLocations, 1) &&
      !agree(host, queries, in, kWeights, 1) && !agree(host, heads, in, kValue, 2) &&
      !agree(host, heads, in, kLocations, 2) && !agree(host, heads, in, kWeights, 2) &&
      !agree(host, levels, in, kSizes, 0) && !agree(host, levels, in, kStarts, 0) &&
      !agree(host, levels, in, kLocations, 3) && !agree(host, levels, in, kWeights, 3) &&
      !agree(host, points, in, kLocations, 4) && !agree(host, points, in, kWeights, 4);
  if (!fits) return 1;
  set_shape(out[0], {batch.size, queries.size, product(heads.size, in[kValue].shape[3])});
  return 0;
}

// Every level must lie within the pixels, or the kernel would read past the value.
int check_levels(const msda::Problem& problem, shipway_host* host) {
  for (std::int64_t level = 0; level < problem.levels; ++level) {
    const std::int64_t height = problem.sizes[2 * level], width = problem.sizes[2 * level + 1];
    const std::int64_t start = problem.starts[level];
    const bool whole = height >= 0 && width >= 0 && start >= 0 && start <= problem.pixels;
    const std::int64_t room = whole ? problem.pixels - start : 0;
    if (whole && (height == 0 || width <= room / height)) continue;
    return fail(host, "level " + std::to_string(level) +
                          " starts at pixel " + std::to_string(start) + " and has " +
                          std::to_string(height) + " x " + std::to_string(width) +
                          " pixels, which does not fit into the value's " +
                          std::to_string(problem.pixels) +
                          " pixels; check spatial_shapes (height, width) and level_start_index");
  }
  return 0;
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  try {
    shipway_shape shape;
    if (infer(in, attributes, &shape, host)) return 1;
    const std::int64_t* value = in[kValue].shape;
    const std::int64_t* locations = in[kLocations].shape;
    const msda::Problem problem{in[kValue].data, data<std::int64_t>(in[kSizes]),
                                data<std::int64_t>(in[kStarts]), in[kLocations].data,
                                in[kWeights].data, out[0].data, value[0], value[1], value[2],
                                value[3], locations[3], locations[4], locations[1],
                                in[kValue].dtype};
    if (check_levels(problem, host)) return 1;
    const std::int64_t size = elements(out[0]);
    if (size == 0) return 0;
    if (problem.samples() == 0 || problem.pixels == 0) {
      std::memset(out[0].data, 0, static_cast<std::size_t>(size * msda::element_bytes(problem)));
      return 0;
    }
    return msda::run(problem, msda::choose_plan(problem, host), host);
  } catch (const std::bad_alloc&) {
    return fail(host, "MultiScaleDeformableAttn ran out of memory");
  }
}

constexpr const char* kAliases[] = {"npu::MultiScaleDeformableAttn", "::MultiScaleDeformableAttn",
                                    nullptr};

}  // namespace

const shipway_op multi_scale_deformable_attn_op = {
    SHIPWAY_OP_ABI, 1, "shipway", "MultiScaleDeformableAttn", "multi_scale_deformable_attn",
    "TIITT", "T", kFloats, 0, 0, nullptr, kAliases, infer, compute};

}  // namespace shipway
