# EVA-02 ViT-L/14 (Fang et al., 2023, arXiv 2303.11331) through mmpretrain.
# MMSIGMA_WEIGHTS names the folder that holds the file, which `source` below offers.
import os

trunk = dict(
    type='MMPretrainEVA02',
    arch='large',
    weights=os.path.join(
        os.environ.get(
            'MMSIGMA_WEIGHTS', os.path.normpath('{{ fileDirname }}/../../../../shared/weights')
        ),
        'eva02-large-p14_pre_m38m_20230505-b8a1a261.pth',
    ),
    final_norm=False,
    model_args=dict(patch_size=14, sub_ln=True),
)
out_indices = [5, 11, 17, 23]
widths = [1024, 1024, 1024, 1024]
strides = [14, 14, 14, 14]
normalisation = dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323])
release = dict(
    input_size=224,
    licence='mit',
    source='https://mmassets.onedl.ai/'
    'mmpretrain/v1.0/eva02/eva02-large-p14_pre_m38m_20230505-b8a1a261.pth',
)
