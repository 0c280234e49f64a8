# As camvid_600.py, on electron micrographs.
_base_ = 'camvid_600.py'

leaf = '../vnc/sigma_dinov2-s_fcn_vnc-252x252.py'
