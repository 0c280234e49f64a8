# As coco_slice.py, persons alone, the commonest class: 209 instances on 51 images to learn from,
# where 80 classes have nine each on average.
_base_ = 'coco_slice.py'

person = dict(classes=('person',), palette=[(220, 20, 60)])
options = {
    'train_dataloader.dataset.metainfo': person,
    'val_dataloader.dataset.metainfo': person,
    'test_dataloader.dataset.metainfo': person,
    'model.roi_head.bbox_head.num_classes': 1,
    'model.roi_head.mask_head.num_classes': 1,
    'train_cfg.max_iters': 1200,
    'param_scheduler.1.end': 1200,
}
del person
