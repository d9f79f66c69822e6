// The models that the mock server pretends to serve, one of each kind that the page knows.

const CLASSES =
  "adrenal gland left, adrenal gland right, aorta, autochthon left, autochthon right, brain, clavicle left, clavicle right, colon, duodenum, esophagus, femur left, femur right, gallbladder, gluteus maximus left, gluteus maximus right, heart, hip left, hip right, humerus left, humerus right, iliac artery left, iliac artery right, inferior vena cava, kidney left, kidney right, liver, lung lower lobe left, lung lower lobe right, lung upper lobe left, lung upper lobe right, pancreas, portal vein, prostate, rib left 1, rib left 2, rib right 1, rib right 2, sacrum, scapula left, scapula right, small bowel, spinal cord, spleen, sternum, stomach, thyroid gland, trachea, urinary bladder, vertebra L1, vertebra L2, vertebra L3, vertebra L4, vertebra L5".split(
    ", ",
  );

function model(id, family, prompts, outputs, examples, rest = {}) {
  const { classes, modes = [], is_demo = false } = rest;
  return {
    id,
    object: "model",
    created: 0,
    owned_by: "r1seg",
    family,
    device: "cpu",
    dtype: "f32",
    capabilities: { prompts, outputs, modes, ...(classes ? { classes } : {}) },
    examples,
    is_demo,
  };
}

export const MODELS = [
  model(
    "demo",
    "r1seg",
    ["question"],
    ["text", "mask"],
    ["Can you segment the liver in this image?", "Which organ filters the blood and stores platelets?", "The largest artery of the body. Please answer and segment."],
    { is_demo: true },
  ),
  model("R1Seg-3D-Phi-3-4B", "r1seg", ["question"], ["text", "mask"], ["Which organ makes bile? Please segment it."], { modes: ["segment", "report"] }),
  model("SegVol", "segvol", ["text", "points", "box"], ["mask"], ["liver", "left kidney", "spleen"]),
  model("SAM-Med3D", "sam-med3d", ["points", "mask"], ["mask"], []),
  model("VISTA3D", "vista3d", ["organ"], ["mask"], [], { classes: CLASSES }),
];
