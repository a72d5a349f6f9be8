#include "multi_scale_deformable_attn.hpp"
namespace shipway::msda {
void run_avx512(const Problem& problem, const Layout& layout, const SampleTable& table,
                const Plan& plan, const Range& range){ run_avx2(problem,layout,table,plan,range);} }
