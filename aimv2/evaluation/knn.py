"""k nearest neighbours on mean-pooled features: a probe that nothing is trained for."""

from aimv2.evaluation.probe import Features


def knn_accuracy(train: Features, test: Features, num_neighbours: int) -> float:
    """Share of test images whose class the k nearest training images vote for, weighted by their cosine distance.

    Where there are fewer than k, all vote.
    """
    from sklearn.neighbors import KNeighborsClassifier  # here, for it takes longer to load than a plan to be made

    classifier = KNeighborsClassifier(
        n_neighbors=min(num_neighbours, len(train.label_N)), metric="cosine", weights="distance"
    )
    pooled_train, pooled_test = (part.feature_NID.mean(dim=1).cpu().numpy() for part in (train, test))
    classifier.fit(pooled_train, train.label_N.cpu().numpy())
    return float(classifier.score(pooled_test, test.label_N.cpu().numpy()))
