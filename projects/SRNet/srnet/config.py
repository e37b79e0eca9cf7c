"""The config keys of this project, on top of Detectron2's and its DeepLab project's."""

from detectron2.config import CfgNode
from detectron2.projects.deeplab import add_deeplab_config


def add_srnet_config(cfg: CfgNode) -> None:
    """Add every key of this project to a Detectron2 config, each with its meaning beside it."""
    add_deeplab_config(cfg)

    # Evaluation, prediction and drawing refuse MODEL.WEIGHTS that are empty or do not make the
    # whole model: parameters are missing or have another shape, or some of the backbone or of
    # context modules are left over. New context modules are allowed where they start as the
    # identity. False: take what fits. Training always takes what fits, and prints a table of it.
    cfg.MODEL.WEIGHTS_STRICT = True

    # The context module, the same in backbones and heads: comparing two is one word. "" for none;
    # the names are those registered in srnet.modeling.CONTEXT_REGISTRY.
    cfg.MODEL.CONTEXT = CfgNode()
    cfg.MODEL.CONTEXT.NAME = ""
    # In the backbones build_resnet_context_backbone, build_resnet_context_fpn_backbone,
    # build_resnet_deeplab_context_backbone and build_dfnet_context_backbone: the stages with the
    # module ("res2" to "res5"; DFNet: "stage2" to "stage4"), the indices of the blocks in each of
    # them ([] for all, [-1] for the last), and where in a block: "output", on what leaves it, or
    # "residual", on the residual branch before the sum.
    cfg.MODEL.CONTEXT.STAGES = []
    cfg.MODEL.CONTEXT.BLOCKS = []
    cfg.MODEL.CONTEXT.POSITION = "output"
    # A gate ("se", "cbam" or "sr_gate") on the residual branch of every block of these backbones,
    # beside the module that NAME puts elsewhere: for a head with SR on a backbone that was trained
    # with gates as a classifier. With it STAGES may be empty.
    cfg.MODEL.CONTEXT.GATE = ""
    # Channels are divided by this before squeezing (P = C / REDUCTION). C / REDUCTION is also
    # the inner width of nl, a2, cgnl, rcca and ann; 2 in all rows of Table IV.
    cfg.MODEL.CONTEXT.REDUCTION = 2
    # Nodes of the graph: K; P / K channels each.
    cfg.MODEL.CONTEXT.NUM_NODES = 16
    # How the map becomes a vector: "gap" or "ghp" (Eq. 4).
    cfg.MODEL.CONTEXT.SQUEEZE = "ghp"
    # What happens to the nodes: "gcn" (Eq. 5), "sa" (Eq. 6), "fc" or "none".
    cfg.MODEL.CONTEXT.REASONING = "gcn"
    # Norm of the node vector before the reasoning: "LN" or "". The mean of products of small
    # numbers that GHP squeezes is small; with a norm its scale does not matter.
    cfg.MODEL.CONTEXT.NORM = "LN"
    # At inference the convolution after sr takes over its reconstruction, which changes results by
    # rounding: "auto" where that is cheaper for the size of the map, "always" or "never".
    cfg.MODEL.CONTEXT.FOLD = "auto"
    # Dilations of aspp: DeepLabV3's for output stride 8, twice those of MODEL.SEM_SEG_HEAD.
    cfg.MODEL.CONTEXT.ASPP_DILATIONS = [12, 24, 36]

    # BASE_LR is for a batch of so many images and is scaled to IMS_PER_BATCH; 0 for no scaling.
    cfg.SOLVER.BASE_LR_BATCH = 0
    # The batch of an iteration in so many parts, one after another, to save memory.
    cfg.SOLVER.ACCUMULATE = 1
    # An exponential moving average of the weights, updated every PERIOD iterations with 1 - DECAY
    # of the new ones. It is what is evaluated during the training, and OUTPUT_DIR/ema has it.
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9999
    cfg.SOLVER.EMA.PERIOD = 1

    # Keep the maps channels last in memory: the same model, on CPUs and with AMP on GPUs a faster
    # one.
    cfg.MODEL.CHANNELS_LAST = False

    # DFNet (MODEL.BACKBONE.NAME: build_dfnet_backbone): "v1" or "v2", and which of stem, stage2,
    # stage3, stage4 (strides 4, 8, 16, 32) to return.
    cfg.MODEL.DFNET = CfgNode()
    cfg.MODEL.DFNET.VARIANT = "v1"
    cfg.MODEL.DFNET.NORM = "SyncBN"
    cfg.MODEL.DFNET.OUT_FEATURES = ["stage2", "stage3", "stage4"]

    # A network of timm (MODEL.BACKBONE.NAME: build_timm_backbone or build_timm_fpn_backbone): its
    # name there, and which of stem, res2, res3, res4, res5 (strides 2, 4, 8, 16, 32) to return.
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = ""
    cfg.MODEL.TIMM.OUT_FEATURES = ["res2", "res3", "res4", "res5"]

    # ImageClassifier: the classes, the map of the backbone that is classified, and the share of the
    # target that is spread over all classes.
    cfg.MODEL.CLASSIFIER = CfgNode()
    cfg.MODEL.CLASSIFIER.NUM_CLASSES = 1000
    cfg.MODEL.CLASSIFIER.IN_FEATURE = "res5"
    cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING = 0.0

    # Wider-ResNet-38 (MODEL.BACKBONE.NAME: build_wider_resnet_backbone), and which of mod2 (stride
    # 2), mod3 (4), mod4, mod5, mod6, mod7 (8) to return.
    cfg.MODEL.WIDER_RESNET = CfgNode()
    cfg.MODEL.WIDER_RESNET.NORM = "SyncBN"
    cfg.MODEL.WIDER_RESNET.OUT_FEATURES = ["mod2", "mod7"]

    # LOSS_TYPE, a key of DeepLab's, takes "cross_entropy" and "ohem" in this project's heads.
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "cross_entropy"
    # OHEM: pixels whose true class has less than this probability count, and never fewer than so
    # many a process.
    cfg.MODEL.SEM_SEG_HEAD.OHEM_THRESHOLD = 0.7
    cfg.MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT = 100_000
    # The auxiliary head of FCNHead: the feature it works on ("" for no such head) and the weight of
    # its loss.
    cfg.MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE = ""
    cfg.MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT = 0.4

    # Random scale in training is MIN_SIZE_TRAIN with MIN_SIZE_TRAIN_SAMPLING "range". Crops smaller
    # than CROP.SIZE are padded to it, image with the mean and label with the ignored value, where
    # this is on.
    cfg.INPUT.CROP.PAD = True

    # ImageClassifier reads any folder of classes, FOLDER/CLASS/NAME.jpg: where these are set they
    # take the place of DATASETS.TRAIN and TEST. Absolute, or under DETECTRON2_DATASETS.
    cfg.DATASETS.IMAGE_FOLDER_TRAIN = ""
    cfg.DATASETS.IMAGE_FOLDER_TEST = ""
    # Log an image that cannot be read and go on without it, instead of stopping there. In training
    # another one takes its place; the evaluator says how many are missing.
    cfg.DATALOADER.SKIP_BAD_IMAGES = False
    # ImageClassifier in training: RandomResizedCrop to SIZE with an area of SCALE times the image's
    # and an aspect ratio within RATIO, the flip of INPUT.RANDOM_FLIP, then AUTO_AUGMENT ("",
    # "trivial" or "rand", torchvision's), erasing with this probability, and mixing within a
    # process's batch: MixUp, CutMix, or at random one of them; 0 for none, otherwise the alpha of
    # the beta distribution.
    cfg.INPUT.CLASSIFICATION = CfgNode()
    cfg.INPUT.CLASSIFICATION.SIZE = 224
    cfg.INPUT.CLASSIFICATION.SCALE = (0.08, 1.0)
    cfg.INPUT.CLASSIFICATION.RATIO = (3 / 4, 4 / 3)
    cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT = ""
    cfg.INPUT.CLASSIFICATION.RANDOM_ERASING = 0.0
    cfg.INPUT.CLASSIFICATION.MIXUP = 0.0
    cfg.INPUT.CLASSIFICATION.CUTMIX = 0.0
    # In evaluation: the short side after resizing, the side of the centre crop, and how many images
    # a process predicts at once. Set INPUT.MIN_SIZE_TEST to 0 beside them, so that Detectron2's
    # DefaultPredictor leaves resizing to the model.
    cfg.INPUT.CLASSIFICATION.RESIZE_TEST = 256
    cfg.INPUT.CLASSIFICATION.SIZE_TEST = 224
    cfg.INPUT.CLASSIFICATION.BATCH_TEST = 64

    # How the semantic models predict an image: "whole", or "slide" with windows over it.
    cfg.TEST.SEM_SEG = CfgNode()
    cfg.TEST.SEM_SEG.MODE = "whole"
    # Height and width of the window, and its vertical and horizontal step, in pixels. A smaller
    # image is padded to the window.
    cfg.TEST.SEM_SEG.WINDOW = [769, 769]
    cfg.TEST.SEM_SEG.STRIDE = [513, 513]
    # The image is predicted at each of these scales, with its mirror image where FLIP is on, and
    # the probabilities are averaged; the windows are the same pixels at every scale.
    cfg.TEST.SEM_SEG.SCALES = [1.0]
    cfg.TEST.SEM_SEG.FLIP = False
    # The memory budget: so many pixels go through the network at once, but never less than a window
    # or an image.
    cfg.TEST.SEM_SEG.MAX_BATCH_PIXELS = 2**22
