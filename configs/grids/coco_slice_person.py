# As coco_slice.py, and what SIGMA's two modules bring: persons alone, the commonest class, 209
# instances on 51 images to learn from, where 80 classes have nine each on average. At a short side
# of 224, 300 steps of one image.
_base_ = 'coco_slice.py'

leaf = '../coco_slice/sigma_dinov2-s_mask-rcnn-small_coco-slice.py'
tuner = 'model.backbone.tuner'
methods = {
    '_delete_': True,
    'sigma': {},
    'frozen': {tuner: dict(_delete_=True, type='Frozen')},
    # With the decay of rates by block that recipes of Full have.
    'full': {
        tuner: dict(_delete_=True, type='Full'),
        'optim_wrapper.paramwise_cfg.decay_rate': 0.7,
    },
    'no-saf': {f'{tuner}.fusion': 'none'},
    'no-sm': {f'{tuner}.modulation': 'none'},
    'no-saf-no-sm': {f'{tuner}.fusion': 'none', f'{tuner}.modulation': 'none'},
}
del tuner
settings = [
    '../_base_/datasets/coco_slice_instance_224.py',
    '../_base_/schedules/adamw_coco_slice_bs1.py',
]
person = dict(classes=('person',), palette=[(220, 20, 60)])
options = {
    'model.backbone.autocast': None,  # in float32, for CPUs without bfloat16
    # Variables that recipes had when the records in results/ were made. A run is known by a hash of
    # all that its config says, and these are part of it.
    'pad': 28,
    'levels': [7.0, 14, 28, 56],
    # As the records in results/ were made, before either was raised for the others: 0.3 of the
    # heads' rate inside the trunk, and below, 200 proposals in evaluation.
    'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult': 0.3,
    'train_dataloader.dataset.metainfo': person,
    'val_dataloader.dataset.metainfo': person,
    'test_dataloader.dataset.metainfo': person,
    'model.roi_head.bbox_head.num_classes': 1,
    'model.roi_head.mask_head.num_classes': 1,
    'model.test_cfg.rpn.nms_pre': 500,
    'model.test_cfg.rpn.max_per_img': 200,
    'train_cfg.max_iters': 300,
    'train_cfg.val_interval': 300,
    'param_scheduler.0.end': 30,
    'param_scheduler.1.begin': 30,
    'param_scheduler.1.end': 300,
}
del person
seeds = [0, 1, 2]
metric = 'coco/bbox_mAP_50'
