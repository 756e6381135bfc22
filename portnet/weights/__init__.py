"""Weights: read files of every framework without the framework, find official ones by digest, match them by name.

    read.py        read_weights(path): the arrays of a .safetensors, .pth, .npz, .h5, .params or numpy pickle
    catalogue.py   the official weights of the zoo: address, digest, preprocessing, licence, published accuracy
    store.py       resolve(network, "imagenet"): cache, installed packages, download
    match.py       match(weights, wanted): a file's arrays under the names of a network's initializers

A weights file is untrusted input: nothing in it is executed, and sizes are checked before anything is allocated.
"""
