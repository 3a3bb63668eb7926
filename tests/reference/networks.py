"""The networks `unet` and `edge`, in its sizes, of docs/method.md and the trainer, their parameters under the trainer's names."""

from collections import OrderedDict

from torch import nn

WIDTHS = {
    "unet": [16, 32, 64, 128, 256, 512, 1024],
    "edge-s": [16, 16, 32, 64, 96],
    "edge": [16, 32, 64, 128, 192],
    "edge-l": [32, 64, 128, 192, 256],
}


class Block(nn.Sequential):
    """A convolution, batch norm and activation, of which the last two may be absent."""

    def __init__(self, conv, norm=None, activation=None):
        parts = [("conv", conv), ("norm", norm), ("activation", activation)]
        super().__init__(OrderedDict((name, part) for name, part in parts if part is not None))


def conv_norm(inputs, outputs, kernel, stride=1, activation=None):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return Block(conv, nn.BatchNorm2d(outputs), activation)


def upsample():
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)


def unet(dim, side, channels, widths):
    def leaky():
        return nn.LeakyReLU(0.1, inplace=True)

    encoder, inputs = OrderedDict(), channels
    for i, outputs in enumerate(widths):
        if i > 0:
            encoder[f"pool{i}"] = nn.MaxPool2d(2)
        encoder[f"block{i}_0"] = conv_norm(inputs, outputs, 3, activation=leaky())
        encoder[f"block{i}_1"] = conv_norm(outputs, outputs, 3, activation=leaky())
        inputs = outputs
    left = side >> (len(widths) - 1)
    encoder["embed"] = Block(nn.Conv2d(inputs, dim, left))
    grow = nn.ConvTranspose2d(dim, inputs, left, bias=False)
    decoder = OrderedDict(grow=Block(grow, nn.BatchNorm2d(inputs), leaky()))
    for i in reversed(range(len(widths) - 1)):
        decoder[f"up{i}"] = upsample()
        decoder[f"halve{i}"] = conv_norm(widths[i + 1], widths[i], 1)
        decoder[f"block{i}_0"] = conv_norm(widths[i], widths[i], 3, activation=leaky())
        decoder[f"block{i}_1"] = conv_norm(widths[i], widths[i], 3, activation=leaky())
    decoder["image"] = Block(nn.Conv2d(widths[0], channels, 1))
    decoder["tanh"] = nn.Tanh()
    return encoder, decoder


def edge(dim, side, channels, widths):
    def relu():
        return nn.ReLU(inplace=True)

    encoder, inputs, last = OrderedDict(), channels, len(widths) - 1
    for stage, outputs in enumerate(widths):
        encoder[f"stage{stage}_down"] = conv_norm(inputs, outputs, 3, stride=2, activation=relu())
        if stage not in (0, last):
            encoder[f"stage{stage}_keep"] = conv_norm(outputs, outputs, 3, activation=relu())
        inputs = outputs
    left = side >> len(widths)
    share = dim // left**2
    encoder["embed"] = Block(nn.Conv2d(inputs, share, 1, bias=False), nn.BatchNorm2d(share, affine=False))
    grow = nn.ConvTranspose2d(dim, inputs, left, bias=False)
    decoder = OrderedDict(grow=Block(grow, nn.BatchNorm2d(inputs), relu()))
    for stage in reversed(range(len(widths))):
        decoder[f"up{stage}"] = upsample()
        if stage == 0:
            decoder["image"] = Block(nn.Conv2d(widths[0], channels, 3, padding=1))
        else:
            decoder[f"stage{stage}_up"] = conv_norm(widths[stage], widths[stage - 1], 3, activation=relu())
    decoder["tanh"] = nn.Tanh()
    return encoder, decoder


class Autoencoder(nn.Module):
    """The network that a recipe's `[network]` and `[input]` name."""

    def __init__(self, network, size):
        super().__init__()
        build = unet if network["kind"] == "unet" else edge
        widths = network["widths"] or WIDTHS[network["kind"]]
        encoder, decoder = build(network["embedding_dim"], size["size"], size["channels"], widths)
        self.encoder, self.decoder = nn.Sequential(encoder), nn.Sequential(decoder)

    def forward(self, images):
        """Unit embeddings [n, d] and reconstructions [n, channels, side, side] of images in -1..1."""
        z = nn.functional.normalize(self.encoder(images).flatten(1).float(), dim=1)
        return z, self.decoder(z[:, :, None, None])
