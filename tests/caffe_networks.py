"""Small networks in the manner of those that Caffe is known for: prototxt, and the shapes of their arrays."""

from caffe_files import conv, layer, net


def relu(name, blob):
    return layer(name, "ReLU", blob, blob)


LENET = (
    net(
        (1, 1, 28, 28),
        conv("conv1", "data", "num_output: 6 kernel_size: 5 weight_filler { type: 'xavier' }"),
        layer("pool1", "Pooling", "conv1", pooling_param="pool: MAX kernel_size: 2 stride: 2"),
        layer("ip1", "InnerProduct", "pool1", inner_product_param="num_output: 20 weight_filler { type: 'msra' }"),
        relu("relu1", "ip1"),
        layer("drop", "Dropout", "ip1", "ip1", dropout_param="dropout_ratio: 0.4"),
        layer("ip2", "InnerProduct", "ip1", inner_product_param="num_output: 10 weight_filler { type: 'xavier' }"),
        layer("prob", "Softmax", "ip2"),
    ),
    {"conv1": [(6, 1, 5, 5), (6,)], "ip1": [(20, 864), (20,)], "ip2": [(10, 20), (10,)]},
)
CAFFENET = (
    net(
        (10, 3, 67, 67),
        conv("conv1", "data", "num_output: 8 kernel_size: 11 stride: 4 weight_filler { type: 'gaussian' std: 0.01 }"),
        relu("relu1", "conv1"),
        layer("pool1", "Pooling", "conv1", pooling_param="pool: MAX kernel_size: 3 stride: 2"),
        layer("norm1", "LRN", "pool1", lrn_param="local_size: 5 alpha: 0.01 beta: 0.75"),
        conv("conv2", "norm1", "num_output: 8 pad: 2 kernel_size: 5 group: 2 weight_filler { type: 'xavier' }"),
        layer("norm2", "LRN", "conv2", lrn_param="local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL"),
        layer("fc6", "InnerProduct", "norm2", inner_product_param="num_output: 12 weight_filler { type: 'xavier' }"),
        layer("prob", "Softmax", "fc6"),
    ),
    {"conv1": [(8, 3, 11, 11), (8,)], "conv2": [(8, 4, 5, 5), (8,)], "fc6": [(12, 392), (12,)]},
)
GOOGLENET = (
    net(
        (1, 3, 30, 30),
        conv("conv1/7x7_s2", "data", "num_output: 6 pad: 3 kernel_size: 7 stride: 2 weight_filler { type: 'xavier' }"),
        layer("pool1", "Pooling", "conv1/7x7_s2", pooling_param="pool: MAX kernel_size: 3 stride: 2"),
        conv("a1", "pool1", "num_output: 4 kernel_size: 1 weight_filler { type: 'xavier' }"),
        conv("a3", "pool1", "num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: 'xavier' }"),
        layer("ap", "Pooling", "pool1", pooling_param="pool: MAX kernel_size: 3 stride: 1 pad: 1"),
        layer("out", "Concat", ["a1", "a3", "ap"]),
        layer("pool2", "Pooling", "out", pooling_param="pool: AVE kernel_size: 3 stride: 2 pad: 1"),
        layer("pool3", "Pooling", "pool2", pooling_param="pool: AVE kernel_size: 2 stride: 3 pad: 1"),
        layer("fc", "InnerProduct", "pool3", inner_product_param="num_output: 5 weight_filler { type: 'xavier' }"),
    ),
    {
        **{"conv1/7x7_s2": [(6, 3, 7, 7), (6,)], "a1": [(4, 6, 1, 1), (4,)], "a3": [(4, 6, 3, 3), (4,)]},
        **{"fc": [(5, 56), (5,)]},
    },
)
RESNET = (
    net(
        (1, 3, 16, 16),
        conv("conv1", "data", "num_output: 8 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: 'msra' }"),
        layer("bn1", "BatchNorm", "conv1", "conv1", batch_norm_param="use_global_stats: true eps: 0.001"),
        layer("scale1", "Scale", "conv1", "conv1", scale_param="bias_term: true"),
        relu("relu1", "conv1"),
        conv("conv2", "conv1", "num_output: 8 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: 'msra' }"),
        layer("bn2", "BatchNorm", "conv2"),
        layer("scale2", "Scale", "bn2", scale_param="bias_term: false"),
        layer("sum", "Eltwise", ["conv1", "scale2"], eltwise_param="operation: SUM"),
        layer("bn3", "BatchNorm", "sum"),
        relu("relu2", "bn3"),
        layer("pool", "Pooling", "bn3", pooling_param="pool: AVE global_pooling: true"),
        layer("fc", "InnerProduct", "pool", inner_product_param="num_output: 5 weight_filler { type: 'xavier' }"),
        layer("prob", "Softmax", "fc"),
    ),
    {
        **{"conv1": [(8, 3, 3, 3)], "bn1": [(8,), (8,), (1,)], "scale1": [(8,), (8,)], "conv2": [(8, 8, 3, 3)]},
        **{"bn2": [(8,), (8,), (1,)], "scale2": [(8,)], "bn3": [(8,), (8,), (1,)], "fc": [(5, 8), (5,)]},
    },
)
FCN = (
    net(
        (1, 3, 20, 24),
        conv("conv1", "data", "num_output: 4 kernel_size: 3 stride: 2 pad: 5 weight_filler { type: 'xavier' }"),
        layer("act", "PReLU", "conv1", "conv1"),
        conv("score", "conv1", "num_output: 4 kernel_h: 3 kernel_w: 1 pad_h: 2 pad_w: 0 dilation: 2 "
             "weight_filler { type: 'xavier' }"),
        layer("up", "Deconvolution", "score", convolution_param="num_output: 4 kernel_size: 4 stride: 2 group: 4 "
              "bias_term: false weight_filler { type: 'bilinear' }"),
        layer("cut", "Crop", ["up", "data"], crop_param="axis: 2 offset: 3 offset: 2"),
        layer("prob", "Softmax", "cut"),
    ),
    {"conv1": [(4, 3, 3, 3), (4,)], "act": [(4,)], "score": [(4, 4, 3, 1), (4,)], "up": [(4, 1, 4, 4)]},
)  # fmt: skip
MOBILENET = (
    net(
        (1, 3, 17, 17),
        conv("conv1", "data", "num_output: 6 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: 'msra' }"),
        conv("dw", "conv1", "num_output: 6 kernel_size: 3 pad: 1 group: 6 bias_term: false "
             "weight_filler { type: 'msra' }"),
        layer("dw/bn", "BatchNorm", "dw", "dw"),
        layer("dw/scale", "Scale", "dw", "dw", scale_param="bias_term: true"),
        layer("relu6", "ELU", "dw", "dw", elu_param="alpha: 0.5"),
        conv("sep", "dw", "num_output: 7 kernel_size: 1 weight_filler { type: 'msra' }"),
        layer("pool", "Pooling", "sep", pooling_param="pool: AVE global_pooling: true"),
    ),
    {
        **{"conv1": [(6, 3, 3, 3), (6,)], "dw": [(6, 1, 3, 3)], "dw/bn": [(6,), (6,), (1,)]},
        **{"dw/scale": [(6,), (6,)], "sep": [(7, 6, 1, 1), (7,)]},
    },
)  # fmt: skip
SQUEEZENET = (
    net(
        (1, 3, 31, 31),
        conv("conv1", "data", "num_output: 8 kernel_size: 3 stride: 2 weight_filler { type: 'xavier' }"),
        relu("relu1", "conv1"),
        layer("pool1", "Pooling", "conv1", pooling_param="pool: MAX kernel_size: 3 stride: 2"),
        conv("fire2/squeeze1x1", "pool1", "num_output: 3 kernel_size: 1 weight_filler { type: 'xavier' }"),
        relu("fire2/relu_squeeze1x1", "fire2/squeeze1x1"),
        conv("fire2/expand1x1", "fire2/squeeze1x1", "num_output: 4 kernel_size: 1 weight_filler { type: 'xavier' }"),
        conv("fire2/expand3x3", "fire2/squeeze1x1", "num_output: 4 kernel_size: 3 pad: 1 "
             "weight_filler { type: 'xavier' }"),
        layer("fire2/concat", "Concat", ["fire2/expand1x1", "fire2/expand3x3"]),
        conv("conv10", "fire2/concat", "num_output: 6 kernel_size: 1 weight_filler { type: 'gaussian' std: 0.1 }"),
        layer("pool10", "Pooling", "conv10", pooling_param="pool: AVE global_pooling: true"),
        layer("prob", "Softmax", "pool10"),
    ),
    {
        **{"conv1": [(8, 3, 3, 3), (8,)], "fire2/squeeze1x1": [(3, 8, 1, 1), (3,)]},
        **{"fire2/expand1x1": [(4, 3, 1, 1), (4,)], "fire2/expand3x3": [(4, 3, 3, 3), (4,)]},
        **{"conv10": [(6, 8, 1, 1), (6,)]},
    },
)  # fmt: skip

NETWORKS = {
    **{"lenet": LENET, "caffenet": CAFFENET, "googlenet": GOOGLENET, "resnet": RESNET, "fcn": FCN},
    **{"mobilenet": MOBILENET, "squeezenet": SQUEEZENET},
}
