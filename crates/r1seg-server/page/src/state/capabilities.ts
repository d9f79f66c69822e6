// What a model takes, as the page offers it.

import type { ModelInfo, Prompt } from "../types";

export type Asking = "question" | "text" | "classes" | "none";

/** How one asks a model in words: freely, by a name, by one of a list, or not at all. */
export function askingOf(model: ModelInfo | null): Asking {
  if (!model) return "none";
  const { prompts, classes } = model.capabilities;
  if (classes && classes.length > 0 && !prompts.includes("question")) return "classes";
  if (prompts.includes("question")) return "question";
  if (prompts.includes("text")) return "text";
  if (prompts.includes("organ")) return "classes";
  return "none";
}

export function classesOf(model: ModelInfo): string[] {
  return model.capabilities.classes ?? model.examples;
}

export function promptOf(model: ModelInfo, text: string): Prompt {
  const { prompts } = model.capabilities;
  if (prompts.includes("question")) return { question: text };
  if (prompts.includes("text")) return { text };
  return { organ: text };
}

export function takesPoints(model: ModelInfo | null): boolean {
  return model?.capabilities.prompts.includes("points") ?? false;
}

export function takesBox(model: ModelInfo | null): boolean {
  return model?.capabilities.prompts.includes("box") ?? false;
}

/** Models that can draw a mask again that another model has found. */
export function refiners(models: readonly ModelInfo[], model: ModelInfo | null): ModelInfo[] {
  if (!model?.capabilities.outputs.includes("mask")) return [];
  return models.filter(
    (other) => other.id !== model.id && (other.capabilities.prompts.includes("box") || other.capabilities.prompts.includes("mask")),
  );
}
