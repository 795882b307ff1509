"""Lines of upstream's README and notebooks, run with the package's name as the only change."""

import importlib
import textwrap

import numpy as np
import pytest
import torch

import mobilesam
from mobilesam import UnknownModelError, build_sam, build_sam_vit_h, sam_model_registry

LINES = """
    from {package} import sam_model_registry, SamAutomaticMaskGenerator, SamPredictor
    from {package}.utils.transforms import ResizeLongestSide
    from {package}.utils.amg import batched_mask_to_box, mask_to_rle_pytorch, rle_to_mask

    # README
    model_type = "vit_t"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mobile_sam = sam_model_registry[model_type](checkpoint=sam_checkpoint)
    mobile_sam.to(device=device)
    mobile_sam.eval()
    predictor = SamPredictor(mobile_sam)
    predictor.set_image(image)

    # predictor_example.ipynb
    input_point = np.array([[900, 370]])
    input_label = np.array([1])
    masks, scores, logits = predictor.predict(
        point_coords=input_point,
        point_labels=input_label,
        multimask_output=True,
    )
    found["three"] = masks
    mask_input = logits[np.argmax(scores), :, :]  # Choose the model's best mask
    masks, _, _ = predictor.predict(
        point_coords=np.array([[900, 370], [800, 600]]),
        point_labels=np.array([1, 0]),
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    found["refined"] = masks
    input_box = np.array([439, 437, 524, 709])
    masks, _, _ = predictor.predict(
        point_coords=None,
        point_labels=None,
        box=input_box[None, :],
        multimask_output=False,
    )
    found["box"] = masks
    input_boxes = torch.tensor([[439, 437, 524, 709], [700, 40, 1100, 700]], device=predictor.device)
    transformed_boxes = predictor.transform.apply_boxes_torch(input_boxes, image.shape[:2])
    masks, _, _ = predictor.predict_torch(
        point_coords=None,
        point_labels=None,
        boxes=transformed_boxes,
        multimask_output=False,
    )
    found["boxes"] = masks[:, 0].cpu().numpy()
    assert [rle_to_mask(rle).sum() for rle in mask_to_rle_pytorch(masks[:, 0])] == masks.sum((1, 2, 3)).tolist()
    assert batched_mask_to_box(masks).shape == (2, 1, 4)

    resize_transform = ResizeLongestSide(mobile_sam.image_encoder.img_size)

    def prepare_image(image, transform, device):
        image = transform.apply_image(image)
        image = torch.as_tensor(image, device=device.device)
        return image.permute(2, 0, 1).contiguous()

    batched_input = [
        {{
            'image': prepare_image(image, resize_transform, mobile_sam),
            'boxes': resize_transform.apply_boxes_torch(input_boxes, image.shape[:2]),
            'original_size': image.shape[:2]
        }},
    ]
    batched_output = mobile_sam(batched_input, multimask_output=False)
    found["forward"] = batched_output[0]['masks'][:, 0].cpu().numpy()

    # automatic_mask_generator_example.ipynb, with fewer points
    mask_generator_2 = SamAutomaticMaskGenerator(
        model=mobile_sam,
        points_per_side=3,
        pred_iou_thresh=0.86,
        stability_score_thresh=0.92,
        min_mask_region_area=100,  # Requires open-cv to run post-processing
    )
    anns = mask_generator_2.generate(image)
    print(len(anns))
    print(anns[0].keys())
    sorted_anns = sorted(anns, key=(lambda x: x['area']), reverse=True)
    img = np.ones((sorted_anns[0]['segmentation'].shape[0], sorted_anns[0]['segmentation'].shape[1], 4))
    img[:,:,3] = 0
    for ann in sorted_anns:
        m = ann['segmentation']
        img[m] = np.concatenate([np.random.random(3), [0.35]])
    found["everything"] = np.stack([ann['segmentation'] for ann in sorted_anns])
"""


def run_lines(package: str, checkpoint, image) -> dict[str, np.ndarray]:
    found = {}
    names = {"np": np, "torch": torch, "image": image, "sam_checkpoint": str(checkpoint), "found": found}
    exec(textwrap.dedent(LINES.format(package=package)), names)
    return found


def test_upstreams_own_lines_run_with_another_import(checkpoint, zidane):
    pytest.importorskip("mobile_sam", reason="the parity peer mobilesam-mirror is not installed")
    ours, theirs = (run_lines(package, checkpoint, zidane) for package in ("mobilesam", "mobile_sam"))
    assert ours.keys() == theirs.keys()
    for name, masks in ours.items():
        assert masks.dtype == theirs[name].dtype
        assert masks.shape == theirs[name].shape
        assert (masks ^ theirs[name]).sum() <= 1e-4 * masks.sum(), name


def test_every_name_of_upstreams_package_is_here():
    theirs = pytest.importorskip("mobile_sam", reason="the parity peer mobilesam-mirror is not installed")
    public = {name for name, value in vars(theirs).items() if not name.startswith("_") and callable(value)}
    assert len(public) == 7
    assert public <= set(mobilesam.__all__)
    for module in ("automatic_mask_generator", "predictor", "modeling", "build_sam", "utils.amg", "utils.transforms"):
        importlib.import_module(f"mobilesam.{module}")


@pytest.mark.parametrize("model_type", ["vit_b", "vit_l", "vit_h"])
def test_larger_models_are_refused_with_a_hint(model_type):
    for build in (lambda: sam_model_registry[model_type], getattr(mobilesam, f"build_sam_{model_type}")):
        with pytest.raises(UnknownModelError, match=rf"got '{model_type}'\. .*segment_anything"):
            build()
    with pytest.raises(KeyError):
        sam_model_registry[model_type]
    with pytest.raises(UnknownModelError):
        build_sam_vit_h(checkpoint="sam_vit_h_4b8939.pth")


def test_the_registry_lists_what_works():
    assert sorted(sam_model_registry) == ["default", "mobile_sam", "vit_t"]
    assert set(sam_model_registry.values()) == {mobilesam.build_sam_vit_t}
    assert callable(build_sam)  # the function, or the module of its name: tests/unit/test_build_sam.py
    assert "vit_h" not in sam_model_registry


def test_a_checkpoint_of_the_same_layout_loads_and_of_another_says_so(checkpoint, tmp_path):
    """TinySAM's files hold MobileSAM's tensors, sometimes under "model"; SAM's own hold others."""
    state = torch.load(checkpoint, weights_only=True)
    torch.save({"model": state}, tmp_path / "tinysam.pth")
    again = sam_model_registry["vit_t"](tmp_path / "tinysam.pth").state_dict()
    assert all(torch.equal(again[name], state[name]) for name in again)
    other = {name: value for name, value in state.items() if not name.startswith("image_encoder.layers")}
    torch.save({**other, "image_encoder.blocks.0.norm1.weight": torch.zeros(768)}, tmp_path / "sam_vit_b.pth")
    with pytest.raises(mobilesam.CheckpointError, match="vit_b, vit_l, vit_h and of other architectures do not fit"):
        sam_model_registry["vit_t"](tmp_path / "sam_vit_b.pth")
