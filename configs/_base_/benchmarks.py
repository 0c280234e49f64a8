# What recipes are about, by the end of their names: where they are (a folder of configs/), the
# data sets and the schedule. A head takes the data set that is for its task.
def _sized(data, schedules=('40k', '80k', '160k')):
    folder, _, size = data.partition('_')
    return {
        f'{folder}-{size}-{schedule}': dict(
            folder=folder, data=[data], schedule=f'adamw_{schedule}'
        )
        for schedule in schedules
    }


benchmarks = {
    **_sized('ade20k_512x512'),
    **_sized('ade20k_640x640'),
    **_sized('cityscapes_1024x512'),
    **_sized('cocostuff164k_512x512'),
    **_sized('context59_480x480'),
    **_sized('vocaug_512x512'),
    **_sized('loveda_512x512'),
    **_sized('potsdam_512x512'),
    **_sized('gta_512x512', ['40k']),
    **_sized('nyu_480x480', ['40k']),
    'camvid-448x336': dict(folder='camvid', data=['camvid_448x336'], schedule='adamw_4k'),
    'camvid-308x224': dict(folder='camvid', data=['camvid_308x224'], schedule='adamw_600'),
    'vnc-252x252': dict(folder='vnc', data=['vnc_252x252'], schedule='adamw_600'),
    **{
        f'coco-{schedule}': dict(
            folder='coco',
            data=['coco_detection', 'coco_instance', 'coco_panoptic'],
            schedule=f'adamw_coco_{schedule}',
        )
        for schedule in ('short', '1x', '3x')
    },
    'coco-slice': dict(
        folder='coco_slice',
        data=['coco_slice_detection', 'coco_slice_instance', 'coco_slice_panoptic'],
        schedule='adamw_coco_slice',
    ),
    'coco-slice-overfit': dict(
        folder='coco_slice',
        data=['coco_slice_overfit_detection', 'coco_slice_overfit', 'coco_slice_overfit_panoptic'],
        schedule='adamw_coco_overfit',
    ),
    'voc-1x': dict(folder='voc', data=['voc_detection'], schedule='adamw_voc_1x'),
    'brain-238x196': dict(folder='demo', data=['brain_mni152'], schedule='adamw_60'),
}
