"""k nearest neighbours on mean-pooled features: a probe without training."""

from aimv2.evaluation.probe import Features


def knn_accuracy(train: Features, test: Features, num_neighbours: int) -> float:
    """Return the share of test images whose class wins the vote of the k nearest training images.

    Votes are weighted by inverse cosine distance. With fewer than k training images, all vote.
    """
    from sklearn.neighbors import KNeighborsClassifier  # here, because it is slow to load

    classifier = KNeighborsClassifier(
        n_neighbors=min(num_neighbours, len(train.label_N)), metric="cosine", weights="distance"
    )
    pooled_train, pooled_test = (part.feature_NID.mean(dim=1).cpu().numpy() for part in (train, test))
    classifier.fit(pooled_train, train.label_N.cpu().numpy())
    return float(classifier.score(pooled_test, test.label_N.cpu().numpy()))
