"""A network as a feature extractor: the activations of a layer go into scikit-learn's support vector machine.

python examples/features_svm.py [PHOTOS] --backend gluon

MATLAB's advice for fewer than 20 images a class: extract features, train no network. Here SqueezeNet's fire9, averaged
over height and width, with real ImageNet weights, tells handwritten digits apart after seeing 20 of each.
"""

import numpy as np
import typer
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import portnet
from portnet.data.dataset import load_dataset
from portnet.data.samples import write_digits


def main(data: str = typer.Argument(""), backend: str = "", layer: str = "fire9", count: int = 40) -> None:
    """Fit on half of the images of each class, and print the accuracy on the other half."""
    images = load_dataset(data or write_digits(f"digits-{count}", count=count))
    names = np.array(images.classes)[images.labels]
    extractor = portnet.FeatureExtractor("squeezenet1_1", layer=layer, backend=backend or None)
    seen, unseen, labels, answers = train_test_split(
        images.items, names, train_size=0.5, stratify=names, random_state=0
    )
    svm = make_pipeline(extractor, StandardScaler(), SVC()).fit(seen, labels)
    where = backend or "onnxruntime"
    print(f"{layer} of squeezenet1_1 in {where}: {len(seen)} images seen, {len(unseen)} unseen")
    print(f"accuracy {svm.score(unseen, answers):.2%}; for {unseen[0]} it says {svm.predict(unseen[:1])[0]!r}")
    features = extractor.transform(images.items)
    scores = cross_val_score(make_pipeline(StandardScaler(), SVC()), features, names, cv=5)
    print(f"five-fold cross-validation on all {len(names)}: {scores.mean():.2%} ± {scores.std():.2%}")


if __name__ == "__main__":
    typer.run(main)
