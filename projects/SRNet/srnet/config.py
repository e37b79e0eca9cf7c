"""The config keys of this project, on top of Detectron2's and its DeepLab project's.

The comment above a key is its meaning in docs/CONFIG.md, which `srnet config --keys` prints. What a
value may be stands in srnet/ranges.py.
"""

from detectron2.config import CfgNode
from detectron2.projects.deeplab import add_deeplab_config


def add_srnet_config(cfg: CfgNode) -> None:
    """Add every key of this project to a Detectron2 config, each with its meaning above it."""
    add_deeplab_config(cfg)

    # Evaluation, prediction and drawing refuse MODEL.WEIGHTS that are empty or do not make the
    # whole model: parameters are missing or have another shape, or some of the backbone or of
    # context modules are left over. New context modules are allowed where they start as the
    # identity. False: take what fits. Training always takes what fits, and prints a table of it.
    cfg.MODEL.WEIGHTS_STRICT = True

    # The context module, the same in backbones and heads: comparing two is one word.
    cfg.MODEL.CONTEXT = CfgNode()
    # The module; "" for none. The names are those in srnet.modeling.CONTEXT_REGISTRY.
    cfg.MODEL.CONTEXT.NAME = ""
    # The stages with the module, in the backbones build_resnet_context_backbone,
    # build_resnet_context_fpn_backbone, build_resnet_deeplab_context_backbone and
    # build_dfnet_context_backbone: "res2" to "res5"; DFNet: "stage2" to "stage4".
    cfg.MODEL.CONTEXT.STAGES = []
    # The indices of the blocks with the module in each of the STAGES: [] for all, [-1] for the
    # last. A list of lists has one for each of the STAGES: [[-2, -1], []].
    cfg.MODEL.CONTEXT.BLOCKS = []
    # Where in a block: "output", on what leaves it, or "residual", on the residual branch before
    # the sum.
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
    # The kernel of psp's last convolution: 1 as in DF-Seg, 3 as in PSPNet.
    cfg.MODEL.CONTEXT.PSP_KERNEL = 1
    # Dilations of aspp: DeepLabV3's for output stride 8, twice those of MODEL.SEM_SEG_HEAD.
    cfg.MODEL.CONTEXT.ASPP_DILATIONS = [12, 24, 36]

    # BASE_LR is for a batch of this many images and is scaled to IMS_PER_BATCH; 0: no scaling.
    cfg.SOLVER.BASE_LR_BATCH = 0
    # Number of micro-batches that each batch is split into, to save memory.
    cfg.SOLVER.ACCUMULATE = 1
    # The precision of SOLVER.AMP.ENABLED: "bfloat16", "float16", whose losses are scaled, or "" for
    # float16 on a GPU and bfloat16 on a CPU. With bfloat16 a GPU waits for nothing before a step.
    cfg.SOLVER.AMP.PRECISION = ""
    # How several processes share gradients: options of PyTorch's DistributedDataParallel.
    cfg.SOLVER.DDP = CfgNode()
    # Keep the gradients where they are exchanged: no copies, and memory of the size of the weights
    # less.
    cfg.SOLVER.DDP.GRADIENT_AS_BUCKET_VIEW = True
    # Every iteration uses the same weights in the same order. That is so for semantic models and
    # classifiers; a detector leaves out its mask head where an image has no objects.
    cfg.SOLVER.DDP.STATIC_GRAPH = False
    # An exponential moving average of the weights.
    cfg.SOLVER.EMA = CfgNode()
    # Keep the average. It is what is evaluated during the training, and OUTPUT_DIR/ema has it.
    cfg.SOLVER.EMA.ENABLED = False
    # The share of the average that an update keeps; the new weights get the rest.
    cfg.SOLVER.EMA.DECAY = 0.9999
    # Iterations between updates.
    cfg.SOLVER.EMA.PERIOD = 1

    # Keep the maps channels last in memory: the same model, faster on CPUs, and on GPUs with AMP.
    cfg.MODEL.CHANNELS_LAST = False

    # DFNet (MODEL.BACKBONE.NAME: build_dfnet_backbone or build_dfnet_context_backbone).
    cfg.MODEL.DFNET = CfgNode()
    # DFNet-v1 or DFNet-v2.
    cfg.MODEL.DFNET.VARIANT = "v1"
    # The norm after each convolution.
    cfg.MODEL.DFNET.NORM = "SyncBN"
    # Which of stem, stage2, stage3, stage4 (strides 4, 8, 16, 32) to return.
    cfg.MODEL.DFNET.OUT_FEATURES = ["stage2", "stage3", "stage4"]

    # A network of timm (MODEL.BACKBONE.NAME: build_timm_backbone or build_timm_fpn_backbone).
    cfg.MODEL.TIMM = CfgNode()
    # Its name in timm. MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT follow timm's data
    # config, unless they are set in the same file as the name or after it.
    cfg.MODEL.TIMM.NAME = ""
    # Which of stem, res2, res3, res4, res5 (strides 2, 4, 8, 16, 32) to return.
    cfg.MODEL.TIMM.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    # Start from the weights that timm downloads for this name, where MODEL.WEIGHTS is empty.
    cfg.MODEL.TIMM.PRETRAINED = False
    # A file with weights of this network in timm's names, classifier included or not: a checkpoint
    # of PyTorch or safetensors. It is read instead of a download, where MODEL.WEIGHTS is empty.
    cfg.MODEL.TIMM.WEIGHTS = ""

    # ImageClassifier.
    cfg.MODEL.CLASSIFIER = CfgNode()
    # Number of classes.
    cfg.MODEL.CLASSIFIER.NUM_CLASSES = 1000
    # The map of the backbone that is classified.
    cfg.MODEL.CLASSIFIER.IN_FEATURE = "res5"
    # The share of the target that is spread over all classes.
    cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING = 0.0

    # Wider-ResNet-38 (MODEL.BACKBONE.NAME: build_wider_resnet_backbone).
    cfg.MODEL.WIDER_RESNET = CfgNode()
    # The norm before each convolution.
    cfg.MODEL.WIDER_RESNET.NORM = "SyncBN"
    # Which of mod2 (stride 2), mod3 (4), mod4, mod5, mod6, mod7 (8) to return.
    cfg.MODEL.WIDER_RESNET.OUT_FEATURES = ["mod2", "mod7"]

    # The loss of a semantic head. A key of DeepLab's: this project's heads take "cross_entropy"
    # and "ohem".
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "cross_entropy"
    # OHEM: pixels whose true class has a lower probability than this count.
    cfg.MODEL.SEM_SEG_HEAD.OHEM_THRESHOLD = 0.7
    # OHEM: at least this many pixels of each process count.
    cfg.MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT = 100_000
    # The feature that the auxiliary head of FCNHead works on; "" for no such head.
    cfg.MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE = ""
    # FCNHead: the share of channels that are dropped before both classifiers in training.
    cfg.MODEL.SEM_SEG_HEAD.DROPOUT = 0.0
    # The weight of the auxiliary head's loss.
    cfg.MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT = 0.4

    # Pad crops smaller than CROP.SIZE to it, the image with its mean and the label with the ignored
    # value. (Random scale in training is MIN_SIZE_TRAIN with MIN_SIZE_TRAIN_SAMPLING "range".)
    cfg.INPUT.CROP.PAD = True

    # Data sets of your own, without Python: a list of entries, each with a NAME for DATASETS.TRAIN
    # and DATASETS.TEST, a KIND, and the keys of that kind (docs/OWN_DATA.md). Paths are absolute,
    # or under DETECTRON2_DATASETS. The model's numbers of classes follow the data where they are
    # not set.
    cfg.DATASETS.CUSTOM = []
    # A folder of classes, FOLDER/CLASS/NAME.jpg, that ImageClassifier trains on instead of
    # DATASETS.TRAIN. Absolute, or under DETECTRON2_DATASETS.
    cfg.DATASETS.IMAGE_FOLDER_TRAIN = ""
    # The same for evaluation, instead of DATASETS.TEST.
    cfg.DATASETS.IMAGE_FOLDER_TEST = ""
    # Read images outside the image folder of a dataset in COCO's format, where its annotations name
    # absolute paths or ones with "..". Set it for annotation files that you trust.
    cfg.DATASETS.ALLOW_OUTSIDE_ROOT = False
    # Log an image that cannot be read and go on without it, instead of stopping there. In training
    # another one takes its place; the evaluator says how many are missing.
    cfg.DATALOADER.SKIP_BAD_IMAGES = False
    # The images of ImageClassifier. In training: RandomResizedCrop, the flip of INPUT.RANDOM_FLIP,
    # AUTO_AUGMENT, erasing, and mixing within a process's batch.
    cfg.INPUT.CLASSIFICATION = CfgNode()
    # The side of a training crop after resizing, in pixels.
    cfg.INPUT.CLASSIFICATION.SIZE = 224
    # The least and greatest area of a training crop, as a share of the image's.
    cfg.INPUT.CLASSIFICATION.SCALE = (0.08, 1.0)
    # The least and greatest aspect ratio of a training crop.
    cfg.INPUT.CLASSIFICATION.RATIO = (3 / 4, 4 / 3)
    # torchvision's TrivialAugmentWide ("trivial") or RandAugment ("rand"); "" for neither.
    cfg.INPUT.CLASSIFICATION.AUTO_AUGMENT = ""
    # The probability of erasing a part of a training image.
    cfg.INPUT.CLASSIFICATION.RANDOM_ERASING = 0.0
    # MixUp: the alpha of its beta distribution; 0 for none. With CUTMIX, one of the two at random.
    cfg.INPUT.CLASSIFICATION.MIXUP = 0.0
    # CutMix: the same.
    cfg.INPUT.CLASSIFICATION.CUTMIX = 0.0
    # In evaluation: the short side after resizing. Set INPUT.MIN_SIZE_TEST to 0 beside it, so that
    # Detectron2's DefaultPredictor leaves resizing to the model.
    cfg.INPUT.CLASSIFICATION.RESIZE_TEST = 256
    # In evaluation: the side of the centre crop.
    cfg.INPUT.CLASSIFICATION.SIZE_TEST = 224
    # In evaluation: the images that a process predicts at once.
    cfg.INPUT.CLASSIFICATION.BATCH_TEST = 64

    # How the semantic models predict an image.
    cfg.TEST.SEM_SEG = CfgNode()
    # "whole", or "slide" with windows over it.
    cfg.TEST.SEM_SEG.MODE = "whole"
    # Height and width of the window in pixels. A smaller image is padded to the window.
    cfg.TEST.SEM_SEG.WINDOW = [769, 769]
    # Vertical and horizontal step of the window in pixels.
    cfg.TEST.SEM_SEG.STRIDE = [513, 513]
    # The image is predicted at each of these scales and the probabilities are averaged; the windows
    # are the same pixels at every scale.
    cfg.TEST.SEM_SEG.SCALES = [1.0]
    # Predict the mirror image at each scale, too.
    cfg.TEST.SEM_SEG.FLIP = False
    # The memory budget: this many pixels go through the network at once, but never less than a
    # window or an image.
    cfg.TEST.SEM_SEG.MAX_BATCH_PIXELS = 2**22

    # Write OUTPUT_DIR/inference/sem_seg_predictions.json: the masks of all classes of all images,
    # in COCO's result format for stuff. It takes a third of a second for an image of 1024 x 2048
    # pixels. Cityscapes' evaluation has no such file: "srnet submit cityscapes" writes label
    # images.
    cfg.TEST.SEM_SEG_PREDICTIONS = False

    # The best checkpoint of a training, OUTPUT_DIR/model_best.pth: the weights with the best value
    # of a metric. With SOLVER.EMA they are the averaged ones, which are what is evaluated.
    # OUTPUT_DIR/model_best.json has the value of each evaluation.
    cfg.TEST.BEST_CHECKPOINT = CfgNode()
    # The metric, as metrics.json names it: "sem_seg/mIoU", "bbox/AP", "panoptic_seg/PQ",
    # "classification/top1", or "validation/total_loss" with TEST.VALIDATION_LOSS. With several
    # datasets in DATASETS.TEST the name of one comes first: "DATASET/sem_seg/mIoU". "" for none.
    cfg.TEST.BEST_CHECKPOINT.METRIC = ""
    # Whether the largest or the smallest value is the best.
    cfg.TEST.BEST_CHECKPOINT.MODE = "max"
    # The end of a training that no longer gets better, by TEST.BEST_CHECKPOINT.METRIC.
    cfg.TEST.EARLY_STOPPING = CfgNode()
    # Stop after this many evaluations in a row without a better value; 0: never.
    cfg.TEST.EARLY_STOPPING.PATIENCE = 0
    # A value is better if it differs from the best by more than this.
    cfg.TEST.EARLY_STOPPING.MIN_DELTA = 0.0
    # The training's losses on images it does not train on, as curves validation/LOSS beside LOSS.
    # There is no augmentation, and norms and dropout work as in inference; each image counts the
    # same. With SOLVER.EMA the averaged weights are measured. The training is the same without it.
    cfg.TEST.VALIDATION_LOSS = CfgNode()
    # Iterations between two measurements; 0 for none.
    cfg.TEST.VALIDATION_LOSS.PERIOD = 0
    # The dataset; "" for the first of DATASETS.TEST. It needs labels.
    cfg.TEST.VALIDATION_LOSS.DATASET = ""

    # Weights & Biases: what TensorBoard gets is sent there, too (the extra wandb).
    cfg.WANDB = CfgNode()
    # Send it. Environment variables as WANDB_MODE and WANDB_ENTITY are wandb's own.
    cfg.WANDB.ENABLED = False
    # The project there.
    cfg.WANDB.PROJECT = "srnet"
    # The name of the run; "" for that of OUTPUT_DIR.
    cfg.WANDB.NAME = ""
