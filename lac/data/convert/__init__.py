"""Data sets as their authors publish them, turned into the plain folders of `lac.data.folder`.

A format is a function of the source folder that returns a `lac.data.convert.plain.Source`: its clips, one
by one. `convert` does the rest.
"""

from lac.data.convert import carl, penn, tcc, videos
from lac.data.convert.plain import Content, Item, LeftOut, Source, convert

__all__ = ["FORMATS", "Content", "Item", "LeftOut", "Source", "convert"]

FORMATS = {
    "carl-pouring": (carl.read_pouring, "Pouring of CARL and LAC: {train,val}.pkl, videos/NAME.mp4"),
    "carl-penn": (carl.read_penn, "Penn Action of CARL and LAC: {train,val}.pkl, videos/NNNN_ACTION.mp4"),
    "carl-finegym": (
        carl.read_finegym,
        "FineGym of CARL: gym{99,288}_{train_v1.0,val}.pkl, processed_videos/EVENT.mp4",
    ),
    "penn-action": (penn.read, "Penn Action: frames/NNNN/*.jpg, labels/NNNN.mat, and penn_action_labels/ if there"),
    "tcc": (tcc.read, "TFRecords of TCC: [*_tfrecords/]DATASET_SPLIT-K-of-N.tfrecord"),
    "lav": (videos.read_lav, "frame folders of LAV: {train,val}/VIDEO/NNNNNN.jpg"),
    "videos": (videos.read_videos, "any videos or folders of images, and labels.csv (video,time,label) if there"),
}
