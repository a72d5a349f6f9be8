// The operators of Shipway's own library.

#include "shipway_op.h"

namespace shipway {
extern const shipway_op ball_query_op;
extern const shipway_op bev_pool_v2_op;
extern const shipway_op bicubic_resize_op;
extern const shipway_op box_iou_rotated_op;
extern const shipway_op deform_conv2d_op;
extern const shipway_op dynamic_scatter_op;
extern const shipway_op dynamic_voxelize_op;
extern const shipway_op furthest_point_sample_op;
extern const shipway_op grid_sample_3d_op;
extern const shipway_op hard_voxelize_op;
extern const shipway_op multi_scale_deformable_attn_op;
extern const shipway_op nms_op;
extern const shipway_op nms_rotated_op;
extern const shipway_op roi_align_op;
extern const shipway_op roi_align_rotated_op;
extern const shipway_op scatter_add_op;
extern const shipway_op scatter_max_op;
extern const shipway_op scatter_mean_op;
}  // namespace shipway

extern "C" {
SHIPWAY_OPS(&shipway::ball_query_op,
            &shipway::bev_pool_v2_op,
            &shipway::bicubic_resize_op,
            &shipway::box_iou_rotated_op,
            &shipway::deform_conv2d_op,
            &shipway::dynamic_scatter_op,
            &shipway::dynamic_voxelize_op,
            &shipway::furthest_point_sample_op,
            &shipway::grid_sample_3d_op,
            &shipway::hard_voxelize_op,
            &shipway::multi_scale_deformable_attn_op,
            &shipway::nms_op,
            &shipway::nms_rotated_op,
            &shipway::roi_align_op,
            &shipway::roi_align_rotated_op,
            &shipway::scatter_add_op,
            &shipway::scatter_max_op,
            &shipway::scatter_mean_op)
}
