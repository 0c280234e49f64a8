"""PASCAL VOC and its descendants: lists of names, and one folder of images for all splits."""

from tests.trees.pictures import SIZE, write_image, write_labels

XML = """<annotation>
  <filename>{name}.jpg</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  <object>
    <name>dog</name><difficult>0</difficult>
    <bndbox><xmin>3</xmin><ymin>5</ymin><xmax>39</xmax><ymax>56</ymax></bndbox>
  </object>
  <object>
    <name>tvmonitor</name><difficult>{difficult}</difficult>
    <bndbox><xmin>41</xmin><ymin>8</ymin><xmax>77</xmax><ymax>50</ymax></bndbox>
  </object>
</annotation>
"""


def write_list(path, names):
    """Names, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{name}\n' for name in names))


def write_context(root):
    """Labels 1 to 59; 0 is the background, which is left out."""
    root = root / 'VOCdevkit/VOC2010'
    for split, count in (('train', 4), ('val', 3)):
        names = [f'2008_{split == "val":d}{i:05}' for i in range(count)]
        write_list(root / f'ImageSets/SegmentationContext/{split}.txt', names)
        for seed, name in enumerate(names):
            write_image(root / f'JPEGImages/{name}.jpg', seed)
            write_labels(root / f'SegmentationClassContext/{name}.png', [0, 1, 30, 59])


def write_aug(root):
    """VOC 2012 with labels 0 to 20 and 255, and SBD's further images."""
    root = root / 'VOCdevkit/VOC2012'
    for split, folder, count in (
        ('train', 'SegmentationClass', 2),
        ('aug', 'SegmentationClassAug', 3),
        ('val', 'SegmentationClass', 3),
    ):
        names = [f'2007_{len(split)}{i:05}{split}' for i in range(count)]
        write_list(root / f'ImageSets/Segmentation/{split}.txt', names)
        for seed, name in enumerate(names):
            write_image(root / f'JPEGImages/{name}.jpg', seed)
            write_labels(root / f'{folder}/{name}.png', [0, 12, 20, 255])


def write_detection(root):
    """trainval of both years and test of 2007: a dog and a screen on each image."""
    for year, split, count in (('VOC2007', 'trainval', 3), ('VOC2012', 'trainval', 2),
                               ('VOC2007', 'test', 3)):  # fmt: skip
        folder = root / 'VOCdevkit' / year
        names = [f'{year[3:]}_{len(split)}{i:05}' for i in range(count)]
        write_list(folder / f'ImageSets/Main/{split}.txt', names)
        for seed, name in enumerate(names):
            write_image(folder / f'JPEGImages/{name}.jpg', seed)
            height, width = SIZE
            text = XML.format(name=name, width=width, height=height, difficult=seed % 2)
            path = folder / f'Annotations/{name}.xml'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
