"""Classifiers on feature tables: boosted trees and their rivals, saved with a card that says what they are."""
