// Which vector instructions this processor and operating system offer, from cpuid alone
// (__builtin_cpu_supports needs libgcc's __cpu_model, which not every linker provides).
//
// Source: Intel SDM vol. 2A, CPUID leaves 1 and 7, and XGETBV (register state the system saves).

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>

namespace {

struct Registers {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(std::uint32_t leaf) {
  Registers r;
  if (__get_cpuid_max(0, nullptr) >= leaf) {
    __cpuid_count(leaf, 0, r.eax, r.ebx, r.ecx, r.edx);
  }
  return r;
}

std::uint64_t saved_state() {
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

constexpr bool has_all(std::uint64_t value, std::uint64_t mask) { return (value & mask) == mask; }

int isa_level() {
  const Registers basic = cpuid(1);
  constexpr std::uint32_t fma_osxsave_avx_f16c = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29;
  if (!has_all(basic.ecx, fma_osxsave_avx_f16c)) return 0;
  const std::uint64_t state = saved_state();
  const Registers extended = cpuid(7);
  constexpr std::uint64_t ymm_state = 0x6, zmm_state = 0xe6;
  constexpr std::uint32_t avx2 = 1u << 5;
  constexpr std::uint32_t avx512_f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  if (!has_all(state, ymm_state) || !has_all(extended.ebx, avx2)) return 0;
  return has_all(state, zmm_state) && has_all(extended.ebx, avx512_f_dq_bw_vl) ? 2 : 1;
}

}  // namespace
#else
namespace {
int isa_level() { return 0; }
}  // namespace
#endif

namespace {

// The most that SHIPWAY_ISA allows: to compare kernels, or to look for the cause of a wrong result.
int allowed_level() {
  constexpr const char* kNames[] = {"portable", "avx2", "avx512"};
  const char* wanted = std::getenv("SHIPWAY_ISA");
  if (wanted == nullptr || *wanted == '\0') return 2;
  for (int level = 0; level < 3; ++level) {
    if (std::strcmp(wanted, kNames[level]) == 0) return level;
  }
  std::fprintf(stderr, "SHIPWAY_ISA=%s is none of portable, avx2 and avx512; it is ignored\n",
               wanted);
  return 2;
}

}  // namespace

// 0: portable, 1: AVX2 with FMA and F16C, 2: AVX-512 F, DQ, BW and VL. The environment variable
// SHIPWAY_ISA (portable, avx2 or avx512) can lower it; it is read at the first call only.
extern "C" __attribute__((visibility("default"))) int shipway_isa_level() {
  static const int allowed = allowed_level(), offered = isa_level();
  return allowed < offered ? allowed : offered;
}
